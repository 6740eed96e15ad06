"""Progress bars: on a terminal or in a notebook, silent elsewhere."""

import sys
from collections.abc import Iterable

import tqdm


def duration(seconds: float) -> str:
    """Returns how long something takes in the largest unit of which it is one."""
    for unit, size in (('d', 86400), ('h', 3600), ('min', 60)):
        if seconds >= size:
            return f'{seconds / size:.1f} {unit}'
    return f'{seconds:.1f} s'


def bar(iterable: Iterable | None = None, **arguments) -> tqdm.tqdm:
    """Returns a `tqdm` bar that is quiet when standard error is no terminal."""
    notebook = 'ipykernel' in sys.modules
    return tqdm.tqdm(
        iterable,
        disable=not (notebook or sys.stderr.isatty()),
        mininterval=1 if notebook else 0.1,
        **arguments,
    )

"""Progress bars: on a terminal or in a notebook, silent elsewhere."""

import sys
from collections.abc import Iterable

import tqdm


def unit(seconds: float) -> tuple[str, int]:
    """Returns the largest unit of which so many seconds are one, and its seconds."""
    units = (('d', 86400), ('h', 3600), ('min', 60))
    return next((u for u in units if seconds >= u[1]), ('s', 1))


def duration(seconds: float) -> str:
    """Returns how long something takes, in the largest unit of which it is one."""
    name, size = unit(seconds)
    return f'{seconds / size:.1f} {name}'


def bar(iterable: Iterable | None = None, **arguments) -> tqdm.tqdm:
    """Returns a `tqdm` bar that is quiet when standard error is no terminal."""
    notebook = 'ipykernel' in sys.modules
    return tqdm.tqdm(
        iterable,
        disable=not (notebook or sys.stderr.isatty()),
        mininterval=1 if notebook else 0.1,
        **arguments,
    )

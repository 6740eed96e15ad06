"""Progress bars: on a terminal or in a notebook, silent elsewhere."""

import sys
from collections.abc import Iterable

import tqdm


def bar(iterable: Iterable | None = None, **arguments) -> tqdm.tqdm:
    """Returns a `tqdm` bar that is quiet when standard error is no terminal."""
    notebook = 'ipykernel' in sys.modules
    return tqdm.tqdm(
        iterable,
        disable=not (notebook or sys.stderr.isatty()),
        mininterval=1 if notebook else 0.1,
        **arguments,
    )

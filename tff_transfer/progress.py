"""Progress bars: on a terminal or in a notebook, silent elsewhere."""

import sys
from collections.abc import Iterable

import tqdm.auto


def bar(iterable: Iterable | None = None, **arguments) -> tqdm.auto.tqdm:
    """Returns a `tqdm` bar that is quiet when standard error is no terminal."""
    notebook = 'ipykernel' in sys.modules
    return tqdm.auto.tqdm(
        iterable, disable=not (notebook or sys.stderr.isatty()), **arguments
    )

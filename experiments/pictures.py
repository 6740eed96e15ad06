"""The pictures that programs here write."""

import pathlib

from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from tff_transfer import files
from tff_transfer.errors import UserError


def check(path: str) -> None:
    """Checks, before long work, that a path names a kind of picture.

    Raises:
      UserError: It does not.
    """
    kinds = FigureCanvasBase.get_supported_filetypes()
    if pathlib.Path(path).suffix.removeprefix('.') not in kinds:
        raise UserError(
            f'--output={path} names no kind of picture; let it end with'
            f' {", ".join(f".{kind}" for kind in sorted(kinds))}'
        )


def write(figure: Figure, path: str) -> None:
    """Writes a picture, whole or not at all.

    Raises:
      UserError: The path cannot be written.
    """
    try:
        with files.replacing(path) as new:
            figure.savefig(new, dpi=110)
    except OSError as error:
        raise UserError(
            f'--output={path} cannot be written ({error.strerror}); choose another'
        ) from error

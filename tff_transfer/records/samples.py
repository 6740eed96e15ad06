"""Grids of what a generative model makes, by round: pictures of a run directory."""

import contextlib
import pathlib
import re
from collections.abc import Mapping

import numpy as np
import PIL.Image

from tff_transfer import files

FOLDER = 'samples'

_NAME = re.compile(r'round_(\d{6,})\.png')
# Pixels between two images, and what they are.
_GAP, _GREY = 2, 128


def grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Returns images side by side, one row after another.

    Args:
      images: [n, height, width, 1 or 3], uint8 or floating in [0, 1]; n is a multiple
        of `columns`.
      columns: How many stand in a row.

    Returns:
      uint8 [rows, columns, 1 or 3], with a line of grey around each.
    """
    if images.dtype != np.uint8:
        images = np.rint(255 * np.clip(images, 0, 1)).astype(np.uint8)
    gaps = ((0, 0), (_GAP, 0), (_GAP, 0), (0, 0))
    framed = np.pad(images, gaps, constant_values=_GREY)
    _, height, width, channels = framed.shape
    rows = framed.reshape(-1, columns, height, width, channels)
    joined = rows.transpose(0, 2, 1, 3, 4).reshape(-1, columns * width, channels)
    return np.pad(joined, ((0, _GAP), (0, _GAP), (0, 0)), constant_values=_GREY)


def write(run_dir: pathlib.Path, round_number: int, picture: np.ndarray) -> None:
    """Writes the grid of a round, uint8 [height, width, 1 or 3]."""
    path = run_dir / FOLDER / f'round_{round_number:06d}.png'
    shown = picture[..., 0] if picture.shape[-1] == 1 else picture
    with files.replacing(path) as new:
        PIL.Image.fromarray(shown).save(new, 'PNG', optimize=True)


def read(run_dir: pathlib.Path, up_to_round: int) -> dict[int, np.ndarray]:
    """Returns the grids of a run by round, and removes those of later rounds.

    What cannot be read is left out: nothing hangs on it.

    Args:
      run_dir: The run directory.
      up_to_round: The last round that stands.
    """
    found = {}
    for path in sorted((run_dir / FOLDER).glob('round_*.png')):
        name = _NAME.fullmatch(path.name)
        if name is None:
            continue
        if int(name[1]) > up_to_round:
            path.unlink()
            continue
        with contextlib.suppress(OSError, ValueError):
            with PIL.Image.open(path) as picture:
                values = np.asarray(picture)
            found[int(name[1])] = values if values.ndim == 3 else values[..., None]
    return found


def shown(samples: Mapping[int, np.ndarray], most: int = 6) -> list[int]:
    """Returns some of the rounds of which there are grids: first, last, between."""
    rounds = sorted(samples)
    places = np.linspace(0, len(rounds) - 1, min(most, len(rounds))).round()
    return [rounds[int(place)] for place in places]

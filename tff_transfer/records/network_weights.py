"""The weights of a generative model's networks in a file of their own.

Another run starts from it. An exported SavedModel knows what was trained alone: what
stayed frozen is part of its graph there.
"""

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from tff_transfer import files
from tff_transfer.data import npz_archive
from tff_transfer.errors import UserError

FILE = 'weights.npz'

Weights = Mapping[str, Sequence[np.ndarray]]


def save(weights: Weights, path: str | os.PathLike[str]) -> None:
    """Writes the weights of networks, whole or not at all.

    Args:
      weights: The arrays of each network, in its own order, by its name.
      path: The file; the arrays are `NAME/0`, `NAME/1` and so on in it.
    """
    arrays = {
        f'{name}/{number}': array
        for name, of_network in weights.items()
        for number, array in enumerate(of_network)
    }
    with files.replacing(path) as new, open(new, 'wb') as file:
        np.savez(file, **arrays)


def load(path: str | os.PathLike[str], like: Weights) -> dict[str, list[np.ndarray]]:
    """Reads what `save` wrote.

    Args:
      path: The file.
      like: Weights of the networks that they are for.

    Returns:
      The arrays, in the structure of `like`.

    Raises:
      UserError: The file cannot be read, or holds weights of other networks.
    """
    arrays = npz_archive.read(path)
    shapes = {
        f'{name}/{number}': np.shape(array)
        for name, of_network in like.items()
        for number, array in enumerate(of_network)
    }
    for key in [*shapes, *arrays]:
        wanted, found = shapes.get(key), None
        if key in arrays:
            found = arrays[key].shape
        if wanted != found:
            raise UserError(
                f'{path} holds the weights of another architecture: {key} is'
                f' {_shown(found)}, but in this model {_shown(wanted)}; start from a'
                ' run with the same --model and sizes'
            )
        if not np.isfinite(arrays[key]).all():
            raise UserError(
                f'{path}: {key} has values that are not finite; start from another run'
            )
    return {
        name: [arrays[f'{name}/{i}'].astype(w.dtype) for i, w in enumerate(of_network)]
        for name, of_network in like.items()
    }


def place(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the file itself, or the one in a run directory."""
    path = pathlib.Path(path)
    return path / FILE if path.is_dir() else path


def _shown(shape: tuple[int, ...] | None) -> str:
    return 'absent' if shape is None else f'of shape {shape}'

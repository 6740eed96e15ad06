"""The state of a run on disk: exact, whole or absent, the newest few kept."""

import pathlib
import re
import zipfile
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from tff_transfer import files

_NAME = re.compile(r'round_(\d{6,})\.npz')


def _path(folder: pathlib.Path, round_number: int) -> pathlib.Path:
    return folder / f'round_{round_number:06d}.npz'


def rounds(folder: pathlib.Path) -> list[int]:
    """Returns the rounds of which there are checkpoints, the oldest first."""
    names = (_NAME.fullmatch(path.name) for path in folder.glob('*.npz'))
    return sorted(int(name[1]) for name in names if name)


def save(folder: pathlib.Path, round_number: int, state: Any, keep: int) -> None:
    """Saves a state, then removes all but the newest checkpoints.

    Args:
      folder: Where checkpoints are.
      round_number: The round after which the process had this state.
      state: A structure of arrays.
      keep: How many checkpoints stay, at least 1.
    """
    leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(state)]
    with files.replacing(_path(folder, round_number)) as new:
        np.savez(new, **{f'leaf_{i:04d}': leaf for i, leaf in enumerate(leaves)})
    for old in rounds(folder)[:-keep]:
        _path(folder, old).unlink()


def load_newest(
    folder: pathlib.Path, like: Any, among: range | None = None
) -> tuple[int, Any]:
    """Loads the newest checkpoint that is whole.

    Args:
      folder: Where checkpoints are.
      like: A state of the same structure, such as the initial one, for round 0.
      among: The rounds whose states have that structure; all if not given.

    Returns:
      The round and the state; 0 and `like` if there is no checkpoint.
    """
    for round_number in reversed(rounds(folder)):
        if among is not None and round_number not in among:
            continue
        path = _path(folder, round_number)
        try:
            with np.load(path, allow_pickle=False) as stored:
                leaves = [stored[name] for name in sorted(stored.files)]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            logging.warning('%s cannot be read (%s); trying an older one', path, error)
            continue
        return round_number, _pack(leaves, like, path)
    return 0, like


def _pack(leaves: list[np.ndarray], like: Any, path: pathlib.Path) -> Any:
    expected = [np.asarray(leaf) for leaf in tf.nest.flatten(like)]
    found = [(leaf.shape, leaf.dtype) for leaf in leaves]
    if found != [(leaf.shape, leaf.dtype) for leaf in expected]:
        raise ValueError(f'{path} holds the state of another process')
    return tf.nest.pack_sequence_as(like, leaves)

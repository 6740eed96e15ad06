"""The state of a run on disk: exact, whole or absent, the newest few kept."""

import hashlib
import pathlib
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tff_transfer import files
from tff_transfer.errors import UserError, one_line

_NAME = re.compile(r'round_(\d+)\.npz')
_ROWS, _SHA256 = 'rows', 'sha256'


class BrokenError(Exception):
    """A checkpoint is not as it was written."""


def path_of(folder: pathlib.Path, round_number: int) -> pathlib.Path:
    """Returns where the checkpoint of a round is."""
    return folder / f'round_{round_number:06d}.npz'


def rounds(folder: pathlib.Path) -> list[int]:
    """Returns the rounds of which there are checkpoints, the oldest first."""
    found = {
        path: int(name[1])
        for path in folder.glob('*.npz')
        if (name := _NAME.fullmatch(path.name)) and path.is_file()
    }
    return sorted(n for path, n in found.items() if path == path_of(folder, n))


def save(
    folder: pathlib.Path,
    round_number: int,
    state: Any,
    rows: str,
    keep: int,
    best: int | None = None,
) -> None:
    """Saves a state, then removes older checkpoints.

    Args:
      folder: Where checkpoints are.
      round_number: The round after which the process had this state.
      state: A structure of arrays.
      rows: The digest of the rows up to this round (`metrics.digest`).
      keep: How many checkpoints up to this round stay, at least 1.
      best: The round whose checkpoint stays besides, if any.
    """
    leaves = map(np.asarray, tf.nest.flatten(state))
    members = {_leaf(i): leaf for i, leaf in enumerate(leaves)}
    members[_ROWS] = np.array(rows)
    members[_SHA256] = np.array(_digest(round_number, members))
    # As `np.savez` does, which on a full disk leaves a file open that complains later.
    with (
        files.replacing(path_of(folder, round_number)) as new,
        zipfile.ZipFile(new, 'w') as archive,
    ):
        for name, array in members.items():
            with archive.open(f'{name}.npy', 'w', force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    for old in [n for n in rounds(folder) if n <= round_number][:-keep]:
        if old != best:
            path_of(folder, old).unlink()


def load(folder: pathlib.Path, round_number: int, like: Any) -> tuple[Any, str]:
    """Loads the state after a round, if every byte is as it was written.

    Args:
      folder: Where checkpoints are.
      round_number: The round.
      like: A state of the same structure, such as the initial one.

    Returns:
      The state, and the digest of the rows up to this round.

    Raises:
      BrokenError: The file cannot be read, or is not as it was written.
      UserError: It holds a state of another structure.
    """
    path = path_of(folder, round_number)
    try:
        with np.load(path, allow_pickle=False) as stored:
            members = {name: stored[name] for name in stored.files}
        if _SHA256 not in members:
            raise BrokenError('it has no checksum')
        if str(members.pop(_SHA256)) != _digest(round_number, members):
            raise BrokenError('its checksum is another')
        rows = str(members.pop(_ROWS))
    except Exception as error:  # What a damaged archive raises is of any class.
        raise BrokenError(f'{path} is broken: {one_line(error)}') from error
    flat = [np.asarray(leaf) for leaf in tf.nest.flatten(like)]
    expected = {_leaf(i): (leaf.shape, leaf.dtype) for i, leaf in enumerate(flat)}
    if {name: (leaf.shape, leaf.dtype) for name, leaf in members.items()} != expected:
        raise UserError(
            f'{path} holds the state of another network or optimizer; choose another'
            ' --run_dir'
        )
    leaves = [members[name] for name in expected]
    return tf.nest.pack_sequence_as(like, leaves), rows


def _leaf(number: int) -> str:
    return f'leaf_{number}'


def _digest(round_number: int, members: Mapping[str, np.ndarray]) -> str:
    """Returns a SHA-256 of a round, and of names, dtypes, shapes and bytes."""
    digest = hashlib.sha256(str(round_number).encode())
    for name, array in members.items():
        digest.update(f' {name} {array.dtype.str} {array.shape} '.encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

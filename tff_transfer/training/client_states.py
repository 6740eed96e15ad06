"""What clients keep between rounds: rows of one file, for those that took part.

A client's row goes to a place that neither the state before nor any checkpoint needs,
so that a run that is killed at any instant finds what its checkpoints had. They hold
an index: where each client's row is, and its checksum.
"""

import os
import pathlib
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tff_transfer.errors import UserError

# Rows by which the file grows at least.
_MORE_ROWS = 64
# The row of a client that never took part.
_NONE = -1


class ClientStates:
    """The file of what clients keep; which rows hold, an index says.

    An index is int64 [clients, 2]: each client's row number, -1 if it never took
    part, and the row's checksum.
    """

    def __init__(self, initial: Any, path: pathlib.Path | None = None):
        """Opens the file.

        Args:
          initial: What a client keeps before its first round, a structure of arrays.
          path: The file, made if absent; a temporary one if not given.
        """
        self.initial = initial
        leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(initial)]
        self._specs = [(leaf.dtype, leaf.shape, leaf.nbytes) for leaf in leaves]
        self._bytes = sum(leaf.nbytes for leaf in leaves)
        self._file = (
            tempfile.TemporaryFile()  # noqa: SIM115
            if path is None
            else open(path, 'r+b' if path.exists() else 'w+b')  # noqa: SIM115
        )
        self._count = os.fstat(self._file.fileno()).st_size // self._bytes
        self._rows = self._mapped()
        self._needed: list[np.ndarray] = []

    def _mapped(self) -> np.ndarray:
        shape = (self._count, self._bytes)
        if not self._count:
            return np.zeros(shape, np.uint8)
        return np.memmap(self._file, np.uint8, 'r+', shape=shape)

    def empty_index(self, clients: int) -> np.ndarray:
        """Returns the index of clients of whom none took part."""
        return np.tile(np.array([_NONE, 0], np.int64), (clients, 1))

    def take(self, index: np.ndarray, clients: Sequence[int]) -> list[Any]:
        """Returns what each of some clients keeps, by an index.

        Raises:
          UserError: The file was changed since.
        """
        return [self._taken(*index[client], client) for client in clients]

    def _taken(self, row: int, checksum: int, client: int):
        if row == _NONE:
            return self.initial
        if row >= self._count or zlib.crc32(self._rows[row]) != checksum:
            raise UserError(
                f'{self._file.name}: what client number {client} keeps was changed;'
                ' begin again with another --run_dir'
            )
        leaves, start = [], 0
        for dtype, shape, size in self._specs:
            leaf = self._rows[row, start : start + size].view(dtype).reshape(shape)
            leaves.append(leaf)
            start += size
        return tf.nest.pack_sequence_as(self.initial, leaves)

    def put(
        self, index: np.ndarray, clients: Sequence[int], values: Iterable[Any]
    ) -> np.ndarray:
        """Stores what some clients keep now; returns the new index."""
        places = self._free(index, len(clients))
        after = index.copy()
        for client, value, place in zip(clients, values, places, strict=True):
            row, start = self._rows[place], 0
            for leaf, (dtype, _, size) in zip(
                tf.nest.flatten(value), self._specs, strict=True
            ):
                row[start : start + size].view(dtype)[:] = np.ravel(leaf)
                start += size
            after[client] = place, zlib.crc32(row)
        return after

    def _free(self, index: np.ndarray, count: int) -> np.ndarray:
        """Returns rows that neither an index nor a checkpoint needs."""
        used = np.zeros(self._count, bool)
        for needed in (index, *self._needed):
            used[needed[needed[:, 0] != _NONE, 0]] = True
        free = np.flatnonzero(~used)
        if len(free) < count:
            grown = self._count + max(_MORE_ROWS, self._count // 4, count - len(free))
            self._file.truncate(grown * self._bytes)
            free = np.concatenate([free, np.arange(self._count, grown)])
            self._count = grown
            self._rows = self._mapped()
        return free[:count]

    def need(self, indexes: Iterable[np.ndarray]) -> None:
        """Says which indexes checkpoints hold: their rows stay; all is on disk then."""
        if isinstance(self._rows, np.memmap):
            self._rows.flush()
        self._needed = list(indexes)


def took_part(index: np.ndarray) -> np.ndarray:
    """Returns which clients took part by an index, bool [clients]."""
    return index[:, 0] != _NONE

"""What clients keep between rounds: rows of one file, for those that took part.

A row is written to a place that no checkpoint needs and never over one that some
checkpoint does, so that a run that is killed at any instant finds what its newest
checkpoint had. The checkpoint holds where each client's row is, and its checksum.
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
# Where a client that never took part has its row.
_NOWHERE = -1


class ClientStates:
    """What each of many clients keeps.

    Attributes:
      index: Where the client's row is, int64 [clients, 2]: its number and checksum;
        (-1, 0) for one that never took part.
    """

    def __init__(self, initial: Any, clients: int, path: pathlib.Path | None = None):
        """Makes the states of clients that never took part.

        Args:
          initial: What a client keeps before its first round, a structure of arrays.
          clients: How many there are.
          path: The file, made if absent; a temporary one if not given.
        """
        self._initial = initial
        leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(initial)]
        self._specs = [(leaf.dtype, leaf.shape, leaf.nbytes) for leaf in leaves]
        self._bytes = sum(leaf.nbytes for leaf in leaves)
        self._file = (
            tempfile.TemporaryFile()  # noqa: SIM115
            if path is None
            else open(path, 'r+b' if path.exists() else 'w+b')  # noqa: SIM115
        )
        self._rows = os.fstat(self._file.fileno()).st_size // self._bytes
        self._map = self._mapped()
        self._checkpointed: list[np.ndarray] = []
        self._free: list[int] | None = None
        self.index = np.tile(np.array([_NOWHERE, 0], np.int64), (clients, 1))

    def _mapped(self) -> np.ndarray:
        shape = (self._rows, self._bytes)
        if not self._rows:
            return np.zeros(shape, np.uint8)
        return np.memmap(self._file, np.uint8, 'r+', shape=shape)

    def take(self, clients: Sequence[int]) -> list[Any]:
        """Returns what each of some clients keeps.

        Raises:
          UserError: The file was changed since.
        """
        return [self._taken(client) for client in clients]

    def _taken(self, client: int):
        row, checksum = self.index[client]
        if row == _NOWHERE:
            return self._initial
        stored = self._map[row]
        if zlib.crc32(stored) != checksum:
            raise UserError(
                f'{self._file.name}: what client {client} keeps was changed; begin'
                ' again with another --run_dir'
            )
        leaves, start = [], 0
        for dtype, shape, size in self._specs:
            leaves.append(stored[start : start + size].view(dtype).reshape(shape))
            start += size
        return tf.nest.pack_sequence_as(self._initial, leaves)

    def took_part(self) -> np.ndarray:
        """Returns which clients have a row, bool [clients]."""
        return self.index[:, 0] != _NOWHERE

    def put(self, clients: Sequence[int], values: Iterable[Any]) -> None:
        """Stores what some clients keep now; what they had stays for checkpoints."""
        index = self.index.copy()
        for client, value in zip(clients, values, strict=True):
            row = self._place()
            stored, start = self._map[row], 0
            for leaf, (dtype, _, size) in zip(
                tf.nest.flatten(value), self._specs, strict=True
            ):
                stored[start : start + size].view(dtype)[:] = np.ravel(leaf)
                start += size
            index[client] = row, zlib.crc32(stored)
        self._free = None
        self.index = index

    def _place(self) -> int:
        """Returns a row that neither clients nor checkpoints need, made if need be."""
        if self._free is None:
            used = np.zeros(self._rows, bool)
            for index in (self.index, *self._checkpointed):
                used[index[index[:, 0] != _NOWHERE, 0]] = True
            self._free = np.flatnonzero(~used)[::-1].tolist()
        if not self._free:
            grown = self._rows + max(_MORE_ROWS, self._rows // 4)
            self._file.truncate(grown * self._bytes)
            self._free = list(range(self._rows, grown))[::-1]
            self._rows = grown
            self._map = self._mapped()
        return self._free.pop()

    def checkpoint(self, keep: int) -> None:
        """Makes the rows of this instant stay until `keep` more of these calls."""
        if isinstance(self._map, np.memmap):
            self._map.flush()
        self._checkpointed = [*self._checkpointed, self.index][-keep:]
        self._free = None

    def restore(self, index: np.ndarray, others: Iterable[np.ndarray] = ()) -> None:
        """Goes back to a checkpoint's index; rows of `others` stay too."""
        self.index = np.asarray(index, np.int64)
        self._checkpointed = [self.index, *others]
        self._free = None

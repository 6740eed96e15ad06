"""What clients keep between rounds: rows of one file, for those that took part.

A client's row goes to a place that neither the state before nor any checkpoint needs,
so that a run that is killed at any instant finds what its checkpoints had. They hold
an index: where each client's row is, and its checksum.
"""

import contextlib
import os
import pathlib
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
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
    part, and the row's checksum. Rows are written and read, not mapped into memory:
    on a full disk what is written to a map ends the process.
    """

    def __init__(self, initial: Any, path: pathlib.Path | None = None):
        """Opens the file.

        Args:
          initial: What a client keeps before its first round, a structure of arrays.
          path: The file, made if absent; a temporary one if not given.

        Raises:
          UserError: It cannot be opened.
        """
        self._initial = initial
        leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(initial)]
        self._specs = [(leaf.dtype, leaf.shape, leaf.nbytes) for leaf in leaves]
        self._bytes = sum(leaf.nbytes for leaf in leaves)
        self._name = 'a temporary file' if path is None else str(path)
        with self._using():
            self._file = (
                tempfile.TemporaryFile()  # noqa: SIM115
                if path is None
                else open(path, 'r+b' if path.exists() else 'w+b')  # noqa: SIM115
            )
            self._count = os.fstat(self._file.fileno()).st_size // self._bytes
        self._needed: list[np.ndarray] = []

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        """Makes one line of what the system says, such as that the disk is full."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f'what clients keep cannot be stored in {self._name}'
                f' ({error.strerror}); mend it and give the same command to go on'
            ) from error

    def empty_index(self, clients: int) -> np.ndarray:
        """Returns the index of clients of whom none took part."""
        return np.tile(np.array([_NONE, 0], np.int64), (clients, 1))

    def take(self, index: np.ndarray, clients: Sequence[int]) -> list[Any]:
        """Returns what each of some clients keeps, by an index.

        Raises:
          UserError: The file was changed since, or cannot be read.
        """
        return [self._taken(*index[client].tolist(), client) for client in clients]

    def _taken(self, place: int, checksum: int, client: int):
        if place == _NONE:
            return self._initial
        with self._using():
            row = os.pread(self._file.fileno(), self._bytes, place * self._bytes)
        if len(row) < self._bytes or zlib.crc32(row) != checksum:
            raise UserError(
                f'{self._name}: what client number {client} keeps was changed; begin'
                ' again with another --run_dir'
            )
        leaves, start = [], 0
        for dtype, shape, size in self._specs:
            part = np.frombuffer(row, np.uint8, size, start)
            leaves.append(part.view(dtype).reshape(shape))
            start += size
        return tf.nest.pack_sequence_as(self._initial, leaves)

    def put(
        self, index: np.ndarray, clients: Sequence[int], values: Iterable[Any]
    ) -> np.ndarray:
        """Stores what some clients keep now; returns the new index.

        Raises:
          UserError: It cannot be written.
        """
        after = index.copy()
        with self._using():
            places = self._free(index, len(clients))
            for client, value, place in zip(clients, values, places, strict=True):
                leaves = zip(tf.nest.flatten(value), self._specs, strict=True)
                row = b''.join(
                    np.asarray(leaf, dtype).tobytes() for leaf, (dtype, *_) in leaves
                )
                left, end = memoryview(row), (int(place) + 1) * self._bytes
                while left:  # Where a disk fills up, the rest raises why.
                    sent = os.pwrite(self._file.fileno(), left, end - len(left))
                    left = left[sent:]
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
        return free[:count]

    def need(self, indexes: Iterable[np.ndarray]) -> None:
        """Says which indexes checkpoints hold: their rows stay; all is on disk then."""
        with self._using():
            os.fsync(self._file.fileno())
        self._needed = list(indexes)


def took_part(index: np.ndarray) -> np.ndarray:
    """Returns which clients took part by an index, bool [clients]."""
    return index[:, 0] != _NONE

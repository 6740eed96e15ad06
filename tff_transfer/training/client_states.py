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
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tff_transfer import aligned
from tff_transfer.errors import UserError
from tff_transfer.runtime import StackedClients

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

    def __init__(
        self,
        initial: Any,
        path: pathlib.Path | None = None,
        first: Callable[[int], Any] | None = None,
    ):
        """Opens the file.

        Args:
          initial: What a client keeps before its first round, a structure of arrays.
          path: The file, made if absent; a temporary one if not given.
          first: Where that is not the same for all: gives that of a client.

        Raises:
          UserError: It cannot be opened.
        """
        self._initial = initial
        self._leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(initial)]
        self._first = first or (lambda client: initial)
        self._bytes = sum(leaf.nbytes for leaf in self._leaves)
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

    def take(self, index: np.ndarray, clients: Sequence[int]) -> StackedClients:
        """Returns what each of some clients keeps, by an index, at least one.

        Raises:
          UserError: The file was changed since, or cannot be read.
        """
        count = len(clients)
        stacks = [aligned.empty((count, *x.shape), x.dtype) for x in self._leaves]
        for number, client in enumerate(clients):
            place, checksum = index[client].tolist()
            rows = [stack[number : number + 1] for stack in stacks]
            if place == _NONE:
                begins = tf.nest.flatten(self._first(client))
                for row, first in zip(rows, begins, strict=True):
                    row[...] = first
            elif self._read(place, rows) != checksum:
                raise UserError(
                    f'{self._name}: what client number {client} keeps was changed;'
                    ' begin again with another --run_dir'
                )
        return StackedClients(tf.nest.pack_sequence_as(self._initial, stacks))

    def _read(self, place: int, rows: list[np.ndarray]) -> int | None:
        """Reads a row into arrays; returns its checksum, or None if it is cut off."""
        start, checksum = place * self._bytes, 0
        for part in map(_bytes_of, rows):
            with self._using():
                found = os.preadv(self._file.fileno(), [part], start)
            if found < len(part):
                return None
            checksum = zlib.crc32(part, checksum)
            start += found
        return checksum

    def put(
        self, index: np.ndarray, clients: Sequence[int], values: Sequence[Any]
    ) -> np.ndarray:
        """Stores what some clients keep now; returns the new index.

        Args:
          index: What held before.
          clients: Their numbers.
          values: What each of them keeps, stacked or a list.

        Raises:
          UserError: It cannot be written.
        """
        after = index.copy()
        with self._using():
            places = self._free(index, len(clients))
            for client, value, place in zip(clients, values, places, strict=True):
                after[client] = place, self._write(int(place), tf.nest.flatten(value))
        return after

    def _write(self, place: int, row: Sequence[np.ndarray]) -> int:
        """Writes a row; returns its checksum."""
        start, checksum = place * self._bytes, 0
        for leaf, like in zip(row, self._leaves, strict=True):
            left = _bytes_of(np.ascontiguousarray(leaf, like.dtype))
            checksum = zlib.crc32(left, checksum)
            while left:  # Where a disk fills up, the rest raises why.
                sent = os.pwrite(self._file.fileno(), left, start)
                left, start = left[sent:], start + sent
        return checksum

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


def _bytes_of(array: np.ndarray) -> memoryview:
    """Returns the memory of a contiguous array."""
    return memoryview(array.reshape(-1).view(np.uint8))


def took_part(index: np.ndarray) -> np.ndarray:
    """Returns which clients took part by an index, bool [clients]."""
    return index[:, 0] != _NONE

"""Rows that lie in many arrays, gathered late."""

import functools
import math
from collections.abc import Sequence

import numpy as np

from tff_transfer import aligned


class Rows:
    """Rows of many arrays, one array's after another's, gathered when they are used.

    A slice of rows gathers these, into memory that TensorFlow need not copy: so the
    rows of clients are copied once, by the threads that run the clients.
    """

    def __init__(
        self,
        pieces: Sequence[tuple[np.ndarray, np.ndarray]],
        shape: Sequence[int],
        dtype,
    ):
        """Keeps what to gather.

        Args:
          pieces: Arrays [rows, ...] and which of their rows are wanted, int64.
          shape: The shape of a row.
          dtype: The dtype of the arrays.
        """
        self.pieces = tuple(pieces)
        self._shape = tuple(shape)
        self._dtype = np.dtype(dtype)

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *(len(rows) for _, rows in self.pieces)])

    @property
    def nbytes(self) -> int:
        """What all rows take."""
        return len(self) * self._dtype.itemsize * math.prod(self._shape)

    def __len__(self) -> int:
        """Returns how many rows there are."""
        return int(self._starts[-1])

    def __getitem__(self, wanted: slice) -> np.ndarray:
        """Returns rows, an array of its own."""
        first, last, _ = wanted.indices(len(self))
        shape = (max(last - first, 0), *self._shape)
        plain = self._dtype.kind not in 'OUS'
        result = (aligned.empty if plain else np.empty)(shape, self._dtype)
        piece = max(int(np.searchsorted(self._starts, first, 'right')) - 1, 0)
        for (array, rows), start in zip(
            self.pieces[piece:], self._starts[piece:-1].tolist(), strict=True
        ):
            if start >= last:
                break
            rows = rows[max(first - start, 0) : last - start]
            to = max(start - first, 0)
            # The default mode would gather into a buffer of its own first.
            np.take(array, rows, 0, result[to : to + len(rows)], mode='clip')
        return result

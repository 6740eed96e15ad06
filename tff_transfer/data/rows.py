"""Rows that lie in many arrays, or are made of them, gathered late."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tff_transfer import aligned


def files_of(values: Any) -> list[np.memmap]:
    """Returns the memory maps that rows lie in, empty unless they lie in files alone.

    Args:
      values: An array, rows of some, or what keeps one as its `stored`.
    """
    if isinstance(values, Rows | PreparedRows):
        found = [files_of(source) for source in values.sources]
        return [file for files in found for file in files] if all(found) else []
    stored = getattr(values, 'stored', values)
    # What NumPy makes of a map is of its class too, with no file.
    mapped = isinstance(stored, np.memmap) and stored._mmap is not None
    return [stored] if mapped and stored.flags.c_contiguous else []


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

    @property
    def sources(self) -> list[np.ndarray]:
        """The arrays that the rows lie in."""
        return [array for array, _ in self.pieces]

    def between(self, first: int, last: int) -> 'Rows':
        """Returns rows `first` to `last`, not yet gathered."""
        pieces = [
            (array, rows[max(first - start, 0) : max(last - start, 0)])
            for (array, rows), start in zip(
                self.pieces, self._starts[:-1].tolist(), strict=True
            )
            if start < last and first < start + len(rows)
        ]
        return Rows(pieces, self._shape, self._dtype)

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


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedRows:
    """Rows of an array, gathered and prepared when they are used.

    Attributes:
      source: The array [n, ...], or what gives rows as one does.
      rows: Which of its rows, int64.
      prepare: What is made of gathered rows, each of one alone: as many rows come of
        it, and the same whichever others there are.
    """

    source: Any
    rows: np.ndarray
    prepare: Callable[[np.ndarray], np.ndarray]

    @functools.cached_property
    def _none(self) -> np.ndarray:
        return self[:0]

    @property
    def dtype(self) -> np.dtype:
        """The dtype, as of an array."""
        return self._none.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, as of an array."""
        return (len(self), *self._none.shape[1:])

    @property
    def nbytes(self) -> int:
        """What all rows take when they are prepared."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def sources(self) -> list[Any]:
        """What the rows lie in."""
        return [self.source]

    def __len__(self) -> int:
        """Returns how many rows there are."""
        return len(self.rows)

    def between(self, first: int, last: int) -> 'PreparedRows':
        """Returns rows `first` to `last`, not yet gathered."""
        return dataclasses.replace(self, rows=self.rows[first:last])

    def __getitem__(self, wanted: slice) -> np.ndarray:
        """Returns rows, an array of its own."""
        return self.prepare(aligned.take(self.source, self.rows[wanted]))

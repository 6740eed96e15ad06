"""An array of which some rows are others, without a copy of the whole."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Replaced:
    """What is read like an array, by numbers of rows or a slice.

    Attributes:
      base: The array [n, ...], or what is read like one; it may be memory-mapped.
      rows: The numbers of the rows that are others, sorted, int64 [m].
      values: What these are, [m, ...], of the same dtype.
    """

    base: np.ndarray
    rows: np.ndarray
    values: np.ndarray

    @property
    def dtype(self) -> np.dtype:
        """The dtype, as of an array."""
        return self.base.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, as of an array."""
        return self.base.shape

    @property
    def ndim(self) -> int:
        """The number of axes, as of an array."""
        return self.base.ndim

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self.base)

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """Returns some rows, a copy."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        found = np.array(self.base[rows])
        places = np.searchsorted(self.rows, rows)
        places[places == len(self.rows)] = 0
        others = self.rows[places] == rows if len(self.rows) else np.zeros(0, np.int64)
        found[others] = self.values[places[others]]
        return found

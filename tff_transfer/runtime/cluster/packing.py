"""Small arrays as one buffer: what is pickled takes time for each that it has."""

import itertools
from collections.abc import Sequence

import numpy as np

from tff_transfer import aligned


class Packed:
    """Values, of which small arrays of numbers are unpickled as views of one buffer.

    What is unpickled is a list of the values.
    """

    def __init__(self, values: Sequence):
        """Keeps the values: arrays, and anything that can be pickled."""
        self._values = values

    def __reduce__(self):
        small = [_is_small(value) for value in self._values]
        arrays = [v for v, s in zip(self._values, small, strict=True) if s]
        ends = itertools.accumulate(-(-a.nbytes // aligned.BYTES) for a in arrays)
        starts = [end * aligned.BYTES for end in (0, *ends)]
        memory = aligned.empty((starts[-1],), np.uint8)
        for array, start in zip(arrays, starts, strict=False):
            np.ndarray(array.shape, array.dtype, memory, start)[...] = array
        places = [
            (array.dtype.str, array.shape, start)
            for array, start in zip(arrays, starts, strict=False)
        ]
        rest = [v for v, s in zip(self._values, small, strict=True) if not s]
        return _unpacked, (memory, places, rest, small)


def _is_small(value) -> bool:
    return (
        isinstance(value, np.ndarray)
        and value.dtype.kind in 'fiub'
        and value.nbytes < aligned.SMALL
    )


def _unpacked(memory: np.ndarray, places: list, rest: list, small: list[bool]) -> list:
    arrays = (np.ndarray(shape, dtype, memory, start) for dtype, shape, start in places)
    rest = iter(rest)
    return [next(arrays) if packed else next(rest) for packed in small]

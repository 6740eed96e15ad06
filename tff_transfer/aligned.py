"""Arrays at addresses that TensorFlow's kernels want, so that it need not copy them."""

import math
from collections.abc import Sequence

import numpy as np

BYTES = 64
# An array of fewer bytes is copied sooner than it is placed.
SMALL = 2**16


def empty(shape: tuple[int, ...], dtype) -> np.ndarray:
    """Returns an array, with any contents, that TensorFlow need not copy."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + BYTES, np.uint8)
    first = -memory.ctypes.data % BYTES
    return memory[first : first + size].view(dtype).reshape(shape)


def concatenate(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns arrays joined, in such an array if they are many numbers."""
    nbytes = sum(part.nbytes for part in parts)
    if nbytes < SMALL or parts[0].dtype.kind not in 'fiu':
        return np.concatenate(parts)
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    return np.concatenate(parts, out=empty(shape, parts[0].dtype))


def take(array: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns `array[rows]` in such an array, for row numbers that are in range."""
    result = empty((len(rows), *array.shape[1:]), array.dtype)
    if not isinstance(array, np.ndarray):  # NumPy would make an array of all of it.
        result[...] = array[rows]
        return result
    # The default mode would gather into a buffer of its own first.
    return np.take(array, rows, axis=0, out=result, mode='clip')

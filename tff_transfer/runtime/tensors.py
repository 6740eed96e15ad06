"""Arrays as TensorFlow's tensors, without a copy where that is possible."""

import numpy as np
import tensorflow as tf

# TensorFlow's kernels want memory aligned like this, and it copies what is not.
ALIGNMENT = 64
_SMALL = 2**16


def aligned_empty(shape: tuple[int, ...], dtype) -> np.ndarray:
    """Returns an array that `to_tensor` need not copy, with any contents."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % ALIGNMENT
    return memory[first : first + size].view(dtype).reshape(shape)


def to_tensor(array: np.ndarray) -> tf.Tensor:
    """Returns a tensor that may share the array's memory: change it no more.

    What must be copied is copied by NumPy, which lets other threads run meanwhile.
    """
    if array.nbytes < _SMALL or array.dtype.kind not in 'fiu':
        return tf.convert_to_tensor(array)
    usable = (
        array.ctypes.data % ALIGNMENT == 0
        and array.flags.c_contiguous
        and array.flags.writeable
    )
    if not usable:
        copy = aligned_empty(array.shape, array.dtype)
        np.copyto(copy, array)
        array = copy
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())

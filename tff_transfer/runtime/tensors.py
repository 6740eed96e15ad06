"""Arrays as TensorFlow's tensors and back, without a copy where that is possible."""

import ctypes

import numpy as np
import tensorflow as tf

from tff_transfer import aligned

_SMALL = 2**16


def to_tensor(array: np.ndarray | tf.Tensor) -> tf.Tensor:
    """Returns a tensor that may share the array's memory: change it no more.

    A tensor is returned as it is. What must be copied is copied by NumPy, which lets
    other threads run meanwhile.
    """
    if isinstance(array, tf.Tensor):
        return array
    if array.nbytes < _SMALL or array.dtype.kind not in 'fiu':
        return tf.convert_to_tensor(array)
    usable = array.ctypes.data % aligned.BYTES == 0 and array.flags.c_contiguous
    if not usable:
        copy = aligned.empty(array.shape, array.dtype)
        np.copyto(copy, array)
        array = copy
    elif not array.flags.writeable:
        array = _as_if_writable(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def to_array(value: tf.Tensor | np.ndarray) -> np.ndarray:
    """Returns a tensor's values, which may share its memory; an array as it is."""
    if isinstance(value, np.ndarray):
        return value
    if value.dtype.is_floating and value.dtype.size >= 4:
        return np.asarray(memoryview(value))
    values = value.numpy()
    return np.asarray(values, object if isinstance(values, bytes) else None)


def _as_if_writable(array: np.ndarray) -> np.ndarray:
    """Returns a view that NumPy exports; TensorFlow writes to no memory but its own."""
    memory = (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)
    memory.owner = array  # Stays as long as the view does.
    return np.frombuffer(memory, array.dtype).reshape(array.shape)

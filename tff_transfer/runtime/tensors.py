"""Arrays as TensorFlow's tensors and back, without a copy where that is possible."""

import ctypes

import numpy as np
import tensorflow as tf

from tff_transfer import aligned


def to_tensor(array: np.ndarray | np.generic | bytes | tf.Tensor) -> tf.Tensor:
    """Returns a tensor that may share the array's memory: change it no more.

    A tensor is returned as it is. What must be copied is copied by NumPy, which lets
    other threads run meanwhile.
    """
    if isinstance(array, tf.Tensor):
        return array
    if not isinstance(array, np.ndarray) or not _may_share(array):
        return tf.convert_to_tensor(array)
    array = _usable(array)
    if not array.flags.writeable:
        array = _as_if_writable(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def to_array(value: tf.Tensor | np.ndarray | np.generic | bytes) -> np.ndarray:
    """Returns a tensor's values, or an array, that may share memory with TensorFlow."""
    if isinstance(value, np.ndarray):
        return _usable(value) if _may_share(value) else value
    if isinstance(value, tf.Tensor):
        if value.dtype.is_floating and value.dtype.size >= 4:
            return np.asarray(memoryview(value))
        value = value.numpy()
    return np.asarray(value, object if isinstance(value, bytes) else None)


def nbytes(value: tf.Tensor | np.ndarray | np.generic | bytes) -> int:
    """Returns how many bytes a value's numbers take; strings are none."""
    if isinstance(value, tf.Tensor):
        return value.dtype.size * value.shape.num_elements()
    array = np.asarray(value)
    return 0 if array.dtype.kind in 'OS' else array.nbytes


def own(value: tf.Tensor | np.ndarray | np.generic | bytes):
    """Returns a copy of values that nobody else has, as `tf.Tensor.numpy` does."""
    if isinstance(value, tf.Tensor):
        return value.numpy()
    return value.copy() if isinstance(value, np.ndarray) else value


def _may_share(array: np.ndarray) -> bool:
    """Returns whether it pays to spare a copy, and can be."""
    return array.nbytes >= aligned.SMALL and array.dtype.kind in 'fiu'


def _usable(array: np.ndarray) -> np.ndarray:
    """Returns an array that TensorFlow need not copy."""
    if array.ctypes.data % aligned.BYTES == 0 and array.flags.c_contiguous:
        return array
    copy = aligned.empty(array.shape, array.dtype)
    np.copyto(copy, array)
    return copy


def _as_if_writable(array: np.ndarray) -> np.ndarray:
    """Returns a view that NumPy exports; TensorFlow writes to no memory but its own."""
    memory = (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)
    memory.owner = array  # Stays as long as the view does.
    return np.frombuffer(memory, array.dtype).reshape(array.shape)

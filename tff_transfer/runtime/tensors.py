"""Arrays as TensorFlow's tensors, without a copy where that is possible."""

import numpy as np
import tensorflow as tf

from tff_transfer import aligned

_SMALL = 2**16


def to_tensor(array: np.ndarray) -> tf.Tensor:
    """Returns a tensor that may share the array's memory: change it no more.

    What must be copied is copied by NumPy, which lets other threads run meanwhile.
    """
    if array.nbytes < _SMALL or array.dtype.kind not in 'fiu':
        return tf.convert_to_tensor(array)
    usable = (
        array.ctypes.data % aligned.BYTES == 0
        and array.flags.c_contiguous
        and array.flags.writeable
    )
    if not usable:
        copy = aligned.empty(array.shape, array.dtype)
        np.copyto(copy, array)
        array = copy
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())

"""Numbers of 8 bits, as TensorFlow's kernels make them."""

import ml_dtypes
import numpy as np
import tensorflow as tf


def nearest(array: np.ndarray) -> np.ndarray:
    """Returns the nearest numbers that bfloat16 has, in the array's dtype."""
    return array.astype(ml_dtypes.bfloat16).astype(array.dtype)


def of_product(array: np.ndarray) -> np.ndarray:
    """Returns a product's numbers as this machine's kernels round them.

    Without instructions for bfloat16 they cut off what is too much: 263 becomes 262.
    """
    two = tf.constant([[256, 7]], tf.bfloat16), tf.ones([2, 1], tf.bfloat16)
    if tf.matmul(*two) != 262:
        return nearest(array)
    bits = array.astype(np.float32).view(np.uint32) & 0xFFFF0000
    return bits.view(np.float32).astype(array.dtype)

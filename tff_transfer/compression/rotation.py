"""The randomised Hadamard transform, by which the numbers of a vector become alike.

Suresh et al. 2017, "Distributed mean estimation with limited communication", section
3: R = H D, with random signs D and the normalised Walsh-Hadamard matrix H. Both are
TFF's own, of `tff.aggregators.HadamardTransformFactory`, whose seed is one for all
clients of a round; here each client draws its own and sends it, as independent
rotations are what the bounds of the mean are about.
"""

import tensorflow as tf
from tensorflow_federated.python.aggregators.hadamard import (
    fast_walsh_hadamard_transform,
)
from tensorflow_federated.python.aggregators.rotation import sample_rademacher


def draw_seed():
    """Draws the seed that sender and receiver share, int32 [2]."""
    least, most = tf.int32.min, tf.int32.max
    return tf.random.uniform([2], least, most, tf.int32)


def length(count: int) -> int:
    """Returns the length of a rotated vector: the next power of two."""
    return 1 << (count - 1).bit_length()


def rotate(vector, seed):
    """Rotates a vector.

    Args:
      vector: Float32 [d].
      seed: What the signs hang on, int32 [2].

    Returns:
      The vector, filled up with zeros and rotated, float32 [`length(d)`].
    """
    count = vector.shape[0]
    filled = tf.pad(vector, [[0, length(count) - count]])
    return _transformed(filled * sample_rademacher(filled.shape, tf.float32, seed))


def rotate_back(rotated, seed, count: int):
    """Returns the first `count` numbers of the vector that was rotated."""
    signs = sample_rademacher(rotated.shape, tf.float32, seed)
    return (_transformed(rotated) * signs)[:count]


def _transformed(vector):
    return fast_walsh_hadamard_transform(vector[None])[0]

"""Gradients of single examples, clipped and with noise (DP-SGD).

Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class GradientNoise(NamedTuple):
    """What is done to the gradients of examples.

    Attributes:
      clip: The norm to which each one is clipped, over all weights together.
      noise_multiplier: The standard deviation to it of the noise of their sum.
    """

    clip: float
    noise_multiplier: float


def noisy_mean(gradient: Callable, noise: GradientNoise, batch):
    """Returns the mean of clipped gradients, with noise, and what each example had.

    Args:
      gradient: Makes of a batch of one example a tuple of gradients and a structure of
        other tensors that begin with the example.
      noise: How.
      batch: A structure of tensors [batch, ...].

    Returns:
      The gradients, and the other tensors of the batch.
    """

    def of_one(example):
        one = tf.nest.map_structure(lambda leaf: leaf[None], example)
        found, other = gradient(one)
        # Not tf.clip_by_global_norm, whose L2Loss becomes a loop over examples.
        norm = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(leaf)) for leaf in found]))
        scale = tf.minimum(1.0, tf.math.divide_no_nan(noise.clip, norm))
        clipped = tuple(scale * leaf for leaf in found)
        return clipped, tf.nest.map_structure(lambda leaf: leaf[0], other)

    found, other = tf.vectorized_map(of_one, batch)
    count = tf.cast(tf.shape(tf.nest.flatten(batch)[0])[0], tf.float32)
    deviation = noise.clip * noise.noise_multiplier
    noisy = tuple(
        (tf.reduce_sum(leaf, 0) + tf.random.normal(leaf.shape[1:], stddev=deviation))
        / count
        for leaf in found
    )
    return noisy, other

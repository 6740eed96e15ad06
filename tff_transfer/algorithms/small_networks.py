"""A network of two dense layers, that a server has beside the model."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def glorot(draw: np.random.Generator, sizes: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Draws the weights of dense layers, Glorot uniform with biases of zero.

    Args:
      draw: The draws.
      sizes: Of what is given, of hidden layers, and of what comes out.

    Returns:
      Kernels and biases by turns, float32.
    """
    found = []
    for given, out in zip(sizes, sizes[1:], strict=False):
        limit = np.sqrt(6 / (given + out))
        kernel = draw.uniform(-limit, limit, [given, out]).astype(np.float32)
        found += [kernel, np.zeros(out, np.float32)]
    return tuple(found)


def two_layers(weights: tuple, given):
    """Returns what a dense layer makes of one of ReLUs, float32 [batch, size].

    Args:
      weights: As of `glorot`, of three sizes.
      given: What the first layer takes, float32 [batch, given size].
    """
    first, shift, last, bias = weights
    return tf.matmul(tf.nn.relu(tf.matmul(given, first) + shift), last) + bias

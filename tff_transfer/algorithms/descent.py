"""Steps down a loss, for what a server trains and what clients train beside theirs."""

from collections.abc import Callable

import tensorflow as tf
import tensorflow_federated as tff


def descended(
    optimizer: tff.learning.optimizers.Optimizer,
    weights: tuple,
    batches,
    loss: Callable,
) -> tuple:
    """Returns weights after a step down a loss for each batch.

    Args:
      optimizer: What takes the steps; it starts anew.
      weights: The weights.
      batches: A dataset or `Rows`.
      loss: A function of (weights, batch) to float32 [].
    """

    def step(state, batch):
        optimizer_state, at = state
        with tf.GradientTape() as tape:
            tape.watch(at)
            value = loss(at, batch)
        gradient = tape.gradient(value, at, unconnected_gradients='zero')
        optimizer_state, at = optimizer.next(optimizer_state, at, gradient)
        return optimizer_state, tuple(at)

    weights = tuple(weights)
    specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, weights)
    return batches.reduce((optimizer.initialize(specs), weights), step)[1]

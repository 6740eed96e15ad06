"""Examples that are the server's own, on which it does what a client does."""

import collections
import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tff_transfer import randomness
from tff_transfer.algorithms.rows import Rows


@dataclasses.dataclass(frozen=True)
class PublicExamples:
    """Some examples, of which each round has all, shuffled anew in each epoch.

    Attributes:
      examples: Arrays [rows, ...] by name, in the structure of the model's input_spec.
      batch_size: Rows of a batch.
      epochs: How often a round has each.
      seed: The seed of their order.
    """

    examples: collections.OrderedDict
    batch_size: int
    epochs: int
    seed: int

    def batches(self, round_number) -> tf.data.Dataset:
        """Returns the batches of a round.

        Args:
          round_number: The round, int32 [].
        """
        rows = len(tf.nest.flatten(self.examples)[0])
        draw = randomness.generator(self.seed, 'public examples')
        key = int(draw.integers(2**31))
        orders = [
            tf.random.experimental.stateless_shuffle(
                np.arange(rows), [key, round_number * self.epochs + epoch]
            )
            for epoch in range(self.epochs)
        ]
        order = tf.concat(orders, 0)
        gathered = tf.nest.map_structure(
            lambda array: tf.gather(array, order), self.examples
        )
        return tf.data.Dataset.from_tensor_slices(gathered).batch(self.batch_size)

    def outputs(self, predict: Callable, spec: tf.TensorSpec):
        """Returns what a model predicts of all, in their order, [rows, ...].

        Args:
          predict: The function of a batch to its outputs.
          spec: What these are, [batch, ...].
        """
        count = len(tf.nest.flatten(self.examples)[0])

        def put(state, batch):
            row, found = state
            made = predict(batch)
            after = row + tf.shape(made)[0]
            places = tf.range(row, after)[:, tf.newaxis]
            return after, tf.tensor_scatter_nd_update(found, places, made)

        examples = tf.nest.map_structure(tf.constant, self.examples)
        rows = Rows(examples, tf.constant(0), tf.constant(count), self.batch_size)
        nothing = tf.zeros([count, *spec.shape[1:]], spec.dtype)
        return rows.reduce((tf.constant(0), nothing), put)[1]

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
      examples: Arrays or tensors [rows, ...] by name, in the structure of the model's
        input_spec.
      batch_size: Rows of a batch.
      epochs: How often a round has each.
      seed: The seed of their order.
    """

    examples: collections.OrderedDict
    batch_size: int
    epochs: int
    seed: int

    @property
    def count(self) -> int:
        """How many there are."""
        return tf.nest.flatten(self.examples)[0].shape[0]

    def drawn(self, count: int, round_number) -> 'PublicExamples':
        """Returns some of them, drawn for a round; all if there are no more.

        Args:
          count: How many.
          round_number: The round, int32 [].
        """
        if count >= self.count:
            return self
        places = self._shuffled('drawn public examples', round_number)[:count]
        return dataclasses.replace(self, examples=self._gathered(places))

    def _shuffled(self, purpose: str, number):
        """Returns the numbers of all in an order, int64 [rows]."""
        key = int(randomness.generator(self.seed, purpose).integers(2**31))
        return tf.random.experimental.stateless_shuffle(
            np.arange(self.count), [key, number]
        )

    def _gathered(self, places) -> collections.OrderedDict:
        return tf.nest.map_structure(
            lambda array: tf.gather(array, places), self.examples
        )

    def _of_round(self, round_number) -> collections.OrderedDict:
        orders = [
            self._shuffled('public examples', round_number * self.epochs + epoch)
            for epoch in range(self.epochs)
        ]
        return self._gathered(tf.concat(orders, 0))

    def batches(self, round_number) -> tf.data.Dataset:
        """Returns the batches of a round.

        Args:
          round_number: The round, int32 [].
        """
        examples = self._of_round(round_number)
        return tf.data.Dataset.from_tensor_slices(examples).batch(self.batch_size)

    def rows(self, round_number) -> Rows:
        """Returns the same as arrays, which cost a client no pipeline."""
        return self._as_rows(self._of_round(round_number), self.count * self.epochs)

    def _as_rows(self, examples, count: int) -> Rows:
        return Rows(examples, tf.constant(0), tf.constant(count), self.batch_size)

    def outputs(self, predict: Callable, spec: tf.TensorSpec):
        """Returns what a model predicts of all, in their order, [rows, ...].

        Args:
          predict: The function of a batch to its outputs.
          spec: What these are, [batch, ...].
        """
        count = self.count

        def put(state, batch):
            row, found = state
            made = predict(batch)
            after = row + tf.shape(made)[0]
            places = tf.range(row, after)[:, tf.newaxis]
            return after, tf.tensor_scatter_nd_update(found, places, made)

        examples = tf.nest.map_structure(tf.convert_to_tensor, self.examples)
        rows = self._as_rows(examples, count)
        nothing = tf.zeros([count, *spec.shape[1:]], spec.dtype)
        return rows.reduce((tf.constant(0), nothing), put)[1]

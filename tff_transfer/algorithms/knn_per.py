"""kNN-Per: the model's probabilities mixed with those of a client's near examples.

Marfoq et al. 2022, "Personalized federated learning through local memorization",
algorithm 1: the model of federated averaging is mixed with a vote of the k examples, of
those that the client trains on, whose representations are nearest to an input's. A
representation is what the last layer takes; a vote weighs exp(-distance), Euclidean.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tff_transfer.algorithms import fed_avg
from tff_transfer.algorithms.method import Client, Context, Method
from tff_transfer.errors import UserError
from tff_transfer.options import option


class Memory(NamedTuple):
    """What a client has of its training examples.

    Attributes:
      representations: float32 [capacity, size], zeros where it has fewer examples.
      labels: int32 [capacity].
      count: How many there are, int32 [].
    """

    representations: Any
    labels: Any
    count: Any


@dataclasses.dataclass(frozen=True)
class KNNPer:
    """kNN-Per."""

    lam: float = option(
        0.5,
        "Lambda: the share of the near examples' vote; 0, the model alone.",
        at_least=0,
        at_most=1,
    )
    k: int = option(10, 'How many near examples vote.', at_least=1)
    capacity: int = option(
        256, 'The most training examples that a client remembers.', at_least=1
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        classes, model = context.classes, context.model
        if model.representation is None:
            raise UserError(
                'kNN-Per compares what a last dense layer takes, but the model does not'
                ' end with one; use a network that does'
            )

        def adapt(weights, client) -> Client:
            trained = context.join(weights, client.personal), client.statistics

            def add(memory, batch):
                _, found, _ = model.representation(trained, batch['x'], training=False)
                room = self.capacity - tf.shape(memory[0])[0]
                return (
                    tf.concat([memory[0], found[:room]], 0),
                    tf.concat([memory[1], batch['y'][:room]], 0),
                )

            size = model.representation_size
            start = tf.zeros([0, size]), tf.zeros([0], tf.int32)
            representations, labels = client.batches.reduce(start, add)
            return client._replace(kept=self._padded(representations, labels, size))

        def outputs(weights, client, inputs):
            all_weights = [*context.join(weights, client.personal), *client.statistics]
            logits, representations = model.represented(all_weights, inputs)
            shares = tf.nn.softmax(logits)
            votes = self._votes(client.kept, representations, classes)
            lam = tf.where(client.kept.count > 0, self.lam, 0.0)
            mixed = lam * votes + (1 - lam) * shares
            # Nothing is impossible, so that losses are finite.
            return tf.math.log(mixed + np.finfo(np.float32).tiny)

        return dataclasses.replace(
            fed_avg.averaging(context),
            adapt=adapt,
            personal=lambda weights, client: weights,
            outputs=outputs,
        )

    def _padded(self, representations, labels, size: int) -> Memory:
        count = tf.shape(labels)[0]
        empty = self.capacity - count
        return Memory(
            tf.ensure_shape(
                tf.pad(representations, [[0, empty], [0, 0]]), [self.capacity, size]
            ),
            tf.ensure_shape(tf.pad(labels, [[0, empty]]), [self.capacity]),
            count,
        )

    def _votes(self, memory: Memory, representations, classes: int):
        """Returns the votes for each class, float32 [batch, classes]."""
        known = memory.representations
        squares = (
            tf.reduce_sum(representations**2, 1, keepdims=True)
            - 2 * tf.matmul(representations, known, transpose_b=True)
            + tf.reduce_sum(known**2, 1)
        )
        there = tf.range(self.capacity) < memory.count
        score = tf.where(there, -tf.sqrt(tf.maximum(squares, 0)), tf.float32.min)
        nearest, which = tf.math.top_k(score, min(self.k, self.capacity))
        labels = tf.one_hot(tf.gather(memory.labels, which), classes)
        return tf.linalg.matvec(labels, tf.nn.softmax(nearest), transpose_a=True)

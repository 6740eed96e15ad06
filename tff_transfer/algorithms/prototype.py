"""The classifier of the nearest class mean, in one round.

Clients send the sum of their features and the count of each class. The logits are half
the negative squared distances to the class means, less what all classes share, so that
the classifier is linear (Mensink et al. 2013, "Distance-based image classification";
Snell et al. 2017, "Prototypical networks for few-shot learning", equation 8;
federated: Legate et al. 2023, "Guiding the last layer in federated learning with
pre-trained models"). A class without examples is never the nearest.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from tff_transfer.algorithms import one_round
from tff_transfer.algorithms.method import Client, Context, Method

# The score of a class of which no client has an example: never the greatest.
NEVER = -1e9


class Server(NamedTuple):
    """What the server has: the weights."""

    weights: tuple


@dataclasses.dataclass(frozen=True)
class Prototype:
    """The nearest class mean."""

    def build(self, context: Context) -> Method:
        """Makes the method."""
        initial = Server(context.initial)
        return one_round.of_sums(context, class_sums, initial, _solve)


def class_sums(x, labels) -> dict:
    """Returns of each class the count, and the sum of its vectors.

    Args:
      x: Floats [batch, size].
      labels: One-hot, of the same dtype, [batch, classes].

    Returns:
      `counts`, [classes], and `sums`, [classes, size], of that dtype.
    """
    return {
        'counts': tf.reduce_sum(labels, 0),
        'sums': tf.matmul(labels, x, transpose_a=True),
    }


def represented_sums(
    context: Context, weights: tuple, client: Client, sums_of: Callable = class_sums
) -> dict:
    """Returns sums over a client's examples of what the last layer takes.

    Args:
      context: The model.
      weights: The shared weights by which they are represented, as in evaluation.
      client: The client, with its own weights.
      sums_of: Makes the sums of a batch of its representations, float32 [batch, size],
        and its labels, one-hot, float32 [batch, classes].
    """
    trained = context.join(weights, client.personal)
    size, classes = weights[-2].shape

    def add(total, batch):
        _, representation, _ = context.model.representation(
            (trained, client.statistics), batch['x'], training=False
        )
        found = sums_of(representation, tf.one_hot(batch['y'], classes))
        return tf.nest.map_structure(tf.add, total, found)

    nothing = sums_of(tf.zeros([0, size]), tf.zeros([0, classes]))
    return client.batches.reduce(nothing, add)


def no_sums(classes: int, size: int) -> dict:
    """Returns the `class_sums` of no examples, in float32."""
    return {'counts': tf.zeros([classes]), 'sums': tf.zeros([classes, size])}


def weighed(context: Context, found: dict) -> dict:
    """Returns what a client adds to the sums of all, by the context's weighting.

    Args:
      context: Says how clients are weighted.
      found: The client's `class_sums`; uniform weights make its means of them, of
        which each counts once.
    """
    if context.weighting != 'uniform':
        return found
    counts = found['counts']
    return {
        'counts': tf.cast(counts > 0, tf.float32),
        'sums': tf.math.divide_no_nan(found['sums'], counts[:, None]),
    }


def scores(counts, sums) -> tuple:
    """Returns the weights of the classifier.

    Args:
      counts: What each class's mean is divided by, floats [classes].
      sums: The sums of its vectors, of the same dtype, [classes, size].

    Returns:
      Kernel float32 [size, classes] and bias float32 [classes], `NEVER` where there is
      no count.
    """
    means = tf.math.divide_no_nan(sums, counts[:, None])
    bias = tf.where(counts > 0, -0.5 * tf.reduce_sum(means**2, 1), NEVER)
    return tf.cast(tf.transpose(means), tf.float32), tf.cast(bias, tf.float32)


def _solve(found) -> Server:
    return Server(scores(found['counts'], found['sums']))

"""The classifier of the nearest class mean, in one round.

Clients send the sum of their features and the count of each class. The logits are half
the negative squared distances to the class means, less what all classes share, so that
the classifier is linear (Mensink et al. 2013, "Distance-based image classification";
Snell et al. 2017, "Prototypical networks for few-shot learning", equation 8;
federated: Legate et al. 2023, "Guiding the last layer in federated learning with
pre-trained models"). A class without examples is never the nearest.
"""

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from tff_transfer.algorithms import one_round
from tff_transfer.algorithms.method import Context, Method

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

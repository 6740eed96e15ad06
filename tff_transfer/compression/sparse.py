"""Few numbers of a vector: those of greatest size, or some at random.

Stich et al. 2018, "Sparsified SGD with memory", algorithm 1: top-k and rand-k with
error feedback, so that what was not sent is added to the next update. Lin et al.
2018, "Deep gradient compression", have top-k at 0.1 %. Without error feedback random
numbers are multiplied by d/k, so that they are right on average (Konečný et al. 2016,
"Federated learning: Strategies for improving communication efficiency", subsampling).
"""

import dataclasses

import tensorflow as tf

from tff_transfer.compression import rotation
from tff_transfer.compression.messages import Positions
from tff_transfer.compression.scheme import Scheme, Shapes, total
from tff_transfer.options import option


def _count(fraction: float, size: int) -> int:
    return max(round(fraction * size), 1)


@dataclasses.dataclass(frozen=True)
class TopK:
    """Top-k with error feedback."""

    fraction: float = option(
        0.01, 'The share of the numbers that is sent.', above=0, at_most=1
    )

    def build(self, shapes: Shapes) -> Scheme:
        """Makes the scheme."""
        size = total(shapes)

        def encode(vector, state):
            found = tf.math.top_k(tf.abs(vector), _count(self.fraction, size))
            places = tf.sort(found.indices)
            values = tf.gather(vector, places)
            return {'places': Positions(places, size), 'values': values}, state

        def decode(message):
            return _scattered(message['places'].values, message['values'], size)

        return Scheme(encode, decode, feedback=True)


@dataclasses.dataclass(frozen=True)
class RandomK:
    """Random-k, whose places follow from a seed."""

    fraction: float = option(
        0.01, 'The share of the numbers that is sent.', above=0, at_most=1
    )
    feedback: bool = option(
        True,
        'Add what was not sent to the next update; or else multiply what is sent, so'
        ' that it is right on average.',
    )

    def build(self, shapes: Shapes) -> Scheme:
        """Makes the scheme."""
        size = total(shapes)
        count = _count(self.fraction, size)
        factor = 1.0 if self.feedback else size / count

        def places(seed):
            return tf.math.top_k(tf.random.stateless_uniform([size], seed), count)[1]

        def encode(vector, state):
            seed = rotation.draw_seed()
            return {'seed': seed, 'values': tf.gather(vector, places(seed))}, state

        def decode(message):
            values = factor * message['values']
            return _scattered(places(message['seed']), values, size)

        return Scheme(encode, decode, feedback=self.feedback)


def _scattered(places, values, size: int):
    return tf.scatter_nd(places[:, None], values, [size])

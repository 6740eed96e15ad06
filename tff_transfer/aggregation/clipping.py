"""Updates cut to a norm: norm clipping and centred clipping."""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from tff_transfer.aggregation.robust import Bucketed
from tff_transfer.aggregation.side_by_side import Rule, Updates
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class NormClip(Bucketed):
    """The weighted mean of updates of bounded norm.

    Sun, Kairouz, Suresh, McMahan 2019, "Can you really backdoor federated learning?",
    section 4, without its noise.
    """

    weighted: ClassVar[bool] = True

    norm: float = option(1.0, 'The largest norm that stays.', above=0)

    def rule(self, most: int) -> Rule:
        """Returns the rule (see `Robust.rule`)."""

        def combine(updates: Updates):
            scale, clipped = _scale(updates.rows, self.norm)
            weights = updates.weights / tf.reduce_sum(updates.weights)
            total = tf.linalg.matvec(updates.rows, weights * scale, transpose_a=True)
            return total, {'clipped': clipped}

        return Rule(combine, measured=('clipped',), weighted=True)


@dataclasses.dataclass(frozen=True)
class CentredClipping(Bucketed):
    """The mean of what stays near to the last round's aggregate.

    Karimireddy, He, Jaggi 2021, "Learning from history for Byzantine robust
    optimization", algorithm 2 (there on the clients' momenta).
    """

    radius: float = option(1.0, 'How far from the centre an update may be.', above=0)
    iterations: int = option(
        1, 'How often the centre moves to the mean in a round.', at_least=1
    )

    def rule(self, most: int) -> Rule:
        """Returns the rule (see `Robust.rule`)."""

        def combine(updates: Updates):
            centre = updates.previous
            for _ in range(self.iterations):
                apart = updates.rows - centre
                scale, clipped = _scale(apart, self.radius)
                share = scale / tf.cast(tf.shape(scale)[0], tf.float32)
                centre += tf.linalg.matvec(apart, share, transpose_a=True)
            return centre, {'clipped': clipped}

        return Rule(combine, measured=('clipped',), keeps_previous=True)


def _scale(rows, norm: float):
    """Returns what each row is multiplied by to be no longer, and how many are."""
    norms = tf.norm(rows, axis=1)
    clipped = tf.reduce_sum(tf.cast(norms > norm, tf.float32))
    return tf.minimum(1.0, tf.math.divide_no_nan(norm, norms)), clipped

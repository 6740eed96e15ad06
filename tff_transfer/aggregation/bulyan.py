"""Bulyan: Krum again and again, and what is nearest to the median of those.

El Mhamdi, Guerraoui, Rouault 2018, "The hidden vulnerability of distributed learning in
Byzantium", section 4.
"""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from tff_transfer.aggregation.coordinates import median
from tff_transfer.aggregation.krum import borne, distances
from tff_transfer.aggregation.robust import Bucketed
from tff_transfer.aggregation.side_by_side import Rule
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class Bulyan(Bucketed):
    """What is nearest to the median, coordinate by coordinate, of what Krum chooses."""

    by_coordinate: ClassVar[bool] = True

    attackers: int = option(
        1, "How many of a round's clients may be attackers.", at_least=0
    )

    def fewest(self) -> tuple[int, str]:
        """Returns how many rows the rule needs, and why."""
        return 4 * self.attackers + 3, f'4 x {self.attackers} attackers + 3'

    def rule(self, most: int) -> Rule:
        """Returns the rule (see `Robust.rule`)."""

        def combine(updates):
            assumed = borne(updates.rows, self.attackers, 4)
            chosen = tf.gather(updates.rows, selection(updates.rows, assumed))
            middle = median(chosen, max(most - 2 * self.attackers, 1))
            return nearest_to(chosen, middle, 2 * assumed), {}

        return Rule(combine)


def selection(rows, attackers):
    """Returns the numbers of the rows that Krum chooses one after another.

    Each choice is among those not yet chosen; all but twice the attackers are.

    Args:
      rows: float32 [rows, columns].
      attackers: How many of them may be any, int32 [].
    """
    count, apart = tf.shape(rows)[0], distances(rows)
    order = tf.argsort(apart, stable=True)
    sorted_apart = tf.gather(apart, order, batch_dims=1)

    def choose(number, left, found):
        there = tf.gather(left, order)
        others = tf.maximum(count - number - attackers - 2, 1)
        near = tf.logical_and(there, tf.cumsum(tf.cast(there, tf.int32), 1) <= others)
        scores = tf.reduce_sum(tf.where(near, sorted_apart, 0.0), 1)
        # The last one left is infinitely far from any other.
        scores = tf.minimum(scores, rows.dtype.max)
        best = tf.argmin(tf.where(left, scores, float('inf')), output_type=tf.int32)
        # Not by `!=`, which in TFF's graphs compares the objects.
        left = tf.logical_and(left, tf.not_equal(tf.range(count), best))
        return number + 1, left, found.write(number, best)

    chosen = count - 2 * attackers
    found = tf.TensorArray(tf.int32, chosen, element_shape=[])
    _, _, found = tf.while_loop(
        lambda number, *_: number < chosen,
        choose,
        (0, tf.fill([count], True), found),
        parallel_iterations=1,
    )
    return found.stack()


def nearest_to(rows, middle, left_out):
    """Returns the mean of each column's values that are nearest to one.

    Args:
      rows: float32 [rows, columns].
      middle: What they are near to, float32 [columns].
      left_out: How many rows are not in it, int32 [].
    """
    columns = tf.transpose(rows)
    apart = tf.abs(columns - middle[:, None])
    _, places = tf.math.top_k(-apart, tf.shape(rows)[0] - left_out, sorted=False)
    return tf.reduce_mean(tf.gather(columns, places, batch_dims=1), 1)

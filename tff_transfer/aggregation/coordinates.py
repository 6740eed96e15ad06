"""Coordinate by coordinate: the median and the trimmed mean.

Yin, Chen, Ramchandran, Bartlett 2018, "Byzantine-robust distributed learning: towards
optimal statistical rates", definitions 1 and 2.
"""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from tff_transfer.aggregation.order_statistics import outermost
from tff_transfer.aggregation.robust import Bucketed
from tff_transfer.aggregation.side_by_side import Rule
from tff_transfer.errors import UserError
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class Median(Bucketed):
    """The median of each coordinate."""

    by_coordinate: ClassVar[bool] = True

    def rule(self, most: int) -> Rule:
        """Returns the rule (see `Robust.rule`)."""
        return Rule(lambda updates: (median(updates.rows, most), {}))


@dataclasses.dataclass(frozen=True)
class TrimmedMean(Bucketed):
    """The mean of each coordinate without the smallest and the largest."""

    by_coordinate: ClassVar[bool] = True

    trimmed: float = option(
        0.2,
        "The share of a round's clients, rounded down, that is left out at each end of"
        ' each coordinate.',
        at_least=0,
        below=0.5,
    )

    def check(self, name: str, clients: int) -> None:
        """Checks that somebody is left out (see `Robust.check`)."""
        super().check(name, clients)
        rows = self.rows(clients)
        if self.trimmed and not int(self.trimmed * rows):
            raise UserError(
                f'--{name}.trimmed={self.trimmed} of {rows} leaves nobody out; raise'
                ' it, or --clients_per_round, or use --aggregation=plain'
            )

    def rule(self, most: int) -> Rule:
        """Returns the rule (see `Robust.rule`)."""
        return Rule(
            lambda updates: (trimmed_mean(updates.rows, self.trimmed, most), {})
        )


def median(rows, most: int):
    """Returns the median of each column; of an even number the mean of the middle two.

    Args:
      rows: float32 [rows, columns].
      most: See `outermost`.
    """
    low, high = outermost(rows, lambda count: (count - 1) // 2, most)
    return (low + high) / 2


def trimmed_mean(rows, share: float, most: int):
    """Returns the mean of each column without a share of the rows at each end.

    What is cut counts as the outermost that stays, which is then subtracted: the sum
    hangs on no value that is cut.

    Args:
      rows: float32 [rows, columns].
      share: The share, rounded down to rows, below 0.5.
      most: See `outermost`.
    """

    def cut(count):
        if isinstance(count, int):
            return int(share * count)
        return tf.cast(share * tf.cast(count, tf.float64), tf.int32)

    low, high = outermost(rows, cut, most)
    total = tf.reduce_sum(tf.clip_by_value(rows, low, high), 0)
    count = tf.shape(rows)[0]
    left_out = tf.cast(cut(count), tf.float32)
    stay = tf.cast(count, tf.float32) - 2 * left_out
    return (total - left_out * (low + high)) / stay

"""Krum and multi-Krum: the updates that are nearest to their neighbours.

Blanchard, El Mhamdi, Guerraoui, Stainer 2017, "Machine learning with adversaries:
Byzantine tolerant gradient descent", sections 4 and 5.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.aggregation.robust import Bucketed
from tff_transfer.aggregation.side_by_side import Rule
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class Krum(Bucketed):
    """The one update that is nearest to its neighbours."""

    attackers: int = option(
        1, "How many of a round's clients may be attackers.", at_least=0
    )

    def fewest(self) -> tuple[int, str]:
        """Returns how many rows the rule needs, and why."""
        return 2 * self.attackers + 3, f'2 x {self.attackers} attackers + 3'

    def rule(self, most: int) -> Rule:
        """Returns the rule (see `Robust.rule`)."""
        return Rule(lambda updates: (nearest(updates.rows, self.attackers, 1), {}))


@dataclasses.dataclass(frozen=True)
class MultiKrum(Krum):
    """The mean of those that are nearest to their neighbours."""

    chosen: int | None = option(
        None,
        'How many updates are averaged; all but the attackers and 2 if not given.',
        at_least=1,
    )

    def fewest(self) -> tuple[int, str]:
        """Returns how many rows the rule needs, and why."""
        needed, why = super().fewest()
        if self.chosen is not None and self.chosen + self.attackers + 2 > needed:
            why = f'{self.chosen} chosen + {self.attackers} attackers + 2'
            return self.chosen + self.attackers + 2, why
        return needed, why

    def rule(self, most: int) -> Rule:
        """Returns the rule (see `Robust.rule`)."""
        return Rule(
            lambda updates: (nearest(updates.rows, self.attackers, self.chosen), {})
        )


def borne(rows, attackers: int, each: int):
    """Returns how many attackers are assumed: of 3 + each x n rows at most n.

    In a round that lacks clients they may be fewer than the option says.
    """
    return tf.clip_by_value((tf.shape(rows)[0] - 3) // each, 0, attackers)


def distances(rows):
    """Returns the squared distances of all pairs, and infinity of a row from itself.

    By one product of matrices: what is far away does not blur the distances of what is
    near to each other, whose own norms alone round them.

    Args:
      rows: float32 [rows, columns].

    Returns:
      float32 [rows, rows].
    """
    products = tf.matmul(rows, rows, transpose_b=True)
    squares = tf.linalg.diag_part(products)
    found = tf.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
    return tf.linalg.set_diag(found, tf.fill(tf.shape(squares), float('inf')))


def nearest(rows, attackers: int, chosen: int | None):
    """Returns the mean of the rows of the lowest scores.

    A score is the sum of the squared distances to the nearest others: all but the
    attackers and 2.

    Args:
      rows: float32 [rows, columns].
      attackers: How many of the rows may be any.
      chosen: How many are averaged; all but the attackers and 2 if not given.
    """
    count = tf.shape(rows)[0]
    others = tf.maximum(count - borne(rows, attackers, 2) - 2, 1)
    scores = tf.reduce_sum(tf.sort(distances(rows))[:, :others], 1)
    best = tf.argsort(scores, stable=True)[: others if chosen is None else chosen]
    return tf.reduce_mean(tf.gather(rows, best), 0)

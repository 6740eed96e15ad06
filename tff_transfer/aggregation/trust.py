"""Weights by how far updates point the same way: FoolsGold and FLTrust."""

import dataclasses

import tensorflow as tf

from tff_transfer.aggregation.robust import Bucketed, Robust
from tff_transfer.aggregation.side_by_side import Rule, Updates
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class FoolsGold(Robust):
    """The mean that counts little who has always moved as another did.

    Fung, Yoon, Beschastnikh 2020, "The limitations of federated learning in Sybil
    settings", algorithm 1, with all weights as features.
    """

    confidence: float = option(
        1.0, "The paper's kappa: how fast trust falls with likeness.", above=0
    )

    def rule(self, most: int) -> Rule:
        """Returns the rule (see `Robust.rule`)."""

        def combine(updates: Updates):
            trust = by_unlikeness(updates.histories, self.confidence)
            return _mean(updates.rows, trust)

        return Rule(combine, measured=('trusted',), remembers=True)


@dataclasses.dataclass(frozen=True)
class FLTrust(Bucketed):
    """The mean that counts who moves as the server's own public examples would.

    Cao, Fang, Liu, Gong 2021, "FLTrust: Byzantine-robust federated learning via trust
    bootstrapping", algorithm 2.
    """

    public_clients: int = option(
        2,
        'How many seen clients, drawn, do not train: their training examples are'
        " public, and the server's own.",
        at_least=1,
    )

    def rule(self, most: int) -> Rule:
        """Returns the rule (see `Robust.rule`)."""

        def combine(updates: Updates):
            ours, lengths = updates.reference, tf.norm(updates.rows, axis=1)
            length = tf.norm(ours)
            along = tf.linalg.matvec(updates.rows, ours)
            trust = tf.nn.relu(tf.math.divide_no_nan(along, lengths * length))
            scale = tf.math.divide_no_nan(length, lengths)
            return _mean(updates.rows, trust, scale)

        return Rule(combine, measured=('trusted',), needs_reference=True)


def by_unlikeness(histories, confidence: float):
    """Returns how much each client is trusted, in [0, 1].

    Args:
      histories: The sums of each one's updates, float32 [clients, size].
      confidence: The paper's kappa.
    """
    # First to a largest number of 1: squares may grow beyond float32 with the rounds.
    largest = tf.reduce_max(tf.abs(histories), 1, keepdims=True)
    scaled = tf.math.divide_no_nan(histories, largest)
    scaled = tf.math.divide_no_nan(scaled, tf.norm(scaled, axis=1, keepdims=True))
    likeness = tf.matmul(scaled, scaled, transpose_b=True)
    # As the authors' code: a client's likeness to itself counts as none.
    likeness = tf.linalg.set_diag(likeness, tf.zeros_like(likeness[0]))
    most = tf.reduce_max(likeness, 1)
    # Pardoning: who is less like any other than the other is.
    ratio = tf.math.divide_no_nan(most[:, None], most[None, :])
    pardoned = tf.where(most[None, :] > most[:, None], likeness * ratio, likeness)
    trust = tf.clip_by_value(1 - tf.reduce_max(pardoned, 1), 0, 1)
    trust = tf.math.divide_no_nan(trust, tf.reduce_max(trust))
    # ln(1 / 0) would be infinite: as the authors' code.
    trust = tf.minimum(trust, 0.99)
    logit = tf.math.log(trust / (1 - trust)) + 0.5
    return tf.clip_by_value(confidence * logit, 0, 1)


def _mean(rows, trust, scale=1.0):
    """Returns the mean by trust of rows of some scale, and how many have any."""
    share = tf.math.divide_no_nan(trust, tf.reduce_sum(trust)) * scale
    trusted = tf.reduce_sum(tf.cast(trust > 0, tf.float32))
    return tf.linalg.matvec(rows, share, transpose_a=True), {'trusted': trusted}

"""FedMD: clients learn what they together answer to public examples, then their own.

Li and Wang 2019, "FedMD: Heterogenous federated learning via model distillation",
algorithm 1: clients tell their models' scores of public examples; each trains its
model to approach the mean of them (digest), then on its own examples (revisit). Scores
are logits, as the paper has it, and what is minimised is their mean absolute
difference, as in the authors' code.

Without the paper's first training on labelled public examples: their labels reach
nothing here, and a model may start from a pretrained backbone.
"""

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from tff_transfer.algorithms import distillation
from tff_transfer.algorithms.distillation import Consensus, OnPublicExamples
from tff_transfer.algorithms.method import Context, Method


class Server(NamedTuple):
    """What the server has: weights of the start, which never change, and answers."""

    weights: tuple
    consensus: Consensus


@dataclasses.dataclass(frozen=True)
class FedMD(OnPublicExamples):
    """FedMD."""

    def build(self, context: Context) -> Method:
        """Makes the method."""
        distillation.check_no_statistics(context, 'FedMD')

        def apart(scores, logits):
            return tf.reduce_mean(tf.abs(scores - logits))

        def server_update(server, aggregate):
            mean = distillation.mean_answers(aggregate)
            return server._replace(consensus=Consensus(mean, aggregate.round))

        return Method(
            lambda: Server(context.initial, self.none_yet(context)),
            lambda server: server.consensus,
            self.client_update(context, tf.identity, apart),
            server_update,
            kept=lambda: context.initial,
            personal=lambda _, client: client.kept,
        )

"""DS-FL: server and clients learn soft labels of public examples that were sharpened.

Itahara, Nishio, Koda, Morikura, Yamamoto 2023, "Distillation-based semi-supervised
federated learning for communication-efficient collaborative training with non-IID
private data", algorithm 2: clients tell their models' softmax of public examples; the
softmax of the mean, divided by a temperature below 1 (entropy reduction aggregation,
equation 9), are labels from which the server's model, which is evaluated, and the
clients' learn by cross-entropy.
"""

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from tff_transfer.algorithms import distillation
from tff_transfer.algorithms.distillation import Consensus, OnPublicExamples
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


class Server(NamedTuple):
    """What the server has: its model, and the soft labels."""

    weights: tuple
    consensus: Consensus


@dataclasses.dataclass(frozen=True)
class DSFL(OnPublicExamples):
    """DS-FL."""

    temperature: float = option(
        0.1,
        "What the mean of the clients' probabilities is divided by before the softmax:"
        ' the lower, the less entropy the labels have.',
        above=0,
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        distillation.check_no_statistics(context, 'DS-FL')

        def apart(labels, logits):
            return tf.reduce_mean(
                tf.nn.softmax_cross_entropy_with_logits(labels, logits)
            )

        def server_update(server, aggregate):
            mean = distillation.mean_answers(aggregate)
            sharp = tf.nn.softmax(mean / self.temperature)
            now, number = Consensus(sharp, aggregate.round), aggregate.round
            return Server(
                self.learned(context, server.weights, now, number, apart), now
            )

        return Method(
            lambda: Server(context.initial, self.none_yet(context)),
            lambda server: server.consensus,
            self.client_update(context, tf.nn.softmax, apart),
            server_update,
            kept=lambda: context.initial,
        )

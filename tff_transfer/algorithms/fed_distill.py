"""FD: clients share what their models answer to examples of each class, no weights.

Jeong et al. 2018, "Communication-efficient on-device machine learning: federated
distillation and augmentation under non-IID private data", algorithm 1: a client trains
a model of its own, whose loss has gamma times the cross-entropy of its predictions to
the teacher of an example's class, and sends the mean of its predictions for each class
while it trained. The teacher is the mean of what the others sent, without its own. Like
the paper's "logit vectors" predictions are normalised by a softmax.

In the paper all clients take part in each round, with all classes. Here the means of a
class stay those of the last round in which a client had it, and a client takes its own
off if it was among them; without others there is no teacher. The paper's mean is over
clients (uniform weights); else it is over examples.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tff_transfer.algorithms import local, prototype
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


class Answers(NamedTuple):
    """What clients answered to examples of each class, when some last had it.

    Attributes:
      sums: The sum of predictions, float32 [classes, classes].
      counts: Of how many, float32 [classes].
      rounds: In which round, int32 [classes]; 0 is none.
    """

    sums: Any
    counts: Any
    rounds: Any

    def after(self, found: dict, round_number) -> 'Answers':
        """Returns what there is after a round's `sums` and `counts`."""
        new = found['counts'] > 0
        return Answers(
            tf.where(new[:, None], found['sums'], self.sums),
            tf.where(new, found['counts'], self.counts),
            tf.where(new, round_number, self.rounds),
        )

    def of_others(self, own: 'Answers') -> tuple:
        """Returns the mean of each class without a client's own, and whether it is one.

        Args:
          own: What the client sent, of which these may have a part.

        Returns:
          float32 [classes, classes] and bool [classes].
        """
        among = tf.equal(own.rounds, self.rounds)
        counts = self.counts - tf.where(among, own.counts, 0.0)
        sums = self.sums - tf.where(among[:, None], own.sums, 0.0)
        return tf.math.divide_no_nan(sums, counts[:, None]), counts > 0


class Kept(NamedTuple):
    """What a client keeps: its model, and what it sent."""

    weights: tuple
    sent: Answers


class Server(NamedTuple):
    """What the server has: weights of the start, which never change, and answers."""

    weights: tuple
    answers: Answers


@dataclasses.dataclass(frozen=True)
class FedDistill:
    """FD, federated distillation."""

    gamma: float = option(1.0, 'The weight of the distillation.', at_least=0)

    def build(self, context: Context) -> Method:
        """Makes the method."""
        functional, classes = context.model.functional, context.classes

        def client_update(answers, client):
            means, known = answers.of_others(client.kept.sent)

            def loss(logits, labels):
                taught = tf.gather(means, labels)
                apart = tf.nn.softmax_cross_entropy_with_logits(taught, logits)
                apart = tf.where(tf.gather(known, labels), apart, 0.0)
                own = functional.loss(logits, labels)
                return own + self.gamma * tf.reduce_mean(apart)

            def answered(batch, found):
                labels = tf.one_hot(batch['y'], classes)
                return prototype.class_sums(tf.nn.softmax(found.logits), labels)

            before = client.kept.weights
            trained = local.train(
                context,
                before,
                client,
                loss=loss,
                watch=answered,
                unwatched=prototype.no_sums(classes, classes),
            )
            found = prototype.weighed(context, trained.watched)
            own = local.difference(before, trained.delta)
            kept = Kept(own, client.kept.sent.after(found, client.round))
            return local.update(
                context, client, trained, delta=(), sums=found, kept=kept
            )

        def server_update(server, aggregate):
            now = server.answers.after(aggregate.sums, aggregate.round)
            return server._replace(answers=now)

        none = Answers(
            np.zeros([classes, classes], np.float32),
            np.zeros(classes, np.float32),
            np.zeros(classes, np.int32),
        )
        return Method(
            lambda: Server(context.initial, none),
            lambda server: server.answers,
            client_update,
            server_update,
            kept=lambda: Kept(context.initial, none),
            personal=lambda answers, client: client.kept.weights,
        )

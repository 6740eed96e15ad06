"""What a model learns from another's outputs, and clients that share answers alone.

FedMD and DS-FL have in common that clients keep models of their own and tell what
these answer to public examples, which all have beforehand; of a round's answers the
server makes a consensus, from which clients then learn. In a round a client learns
from the last consensus, trains on its own examples, and answers to the public
examples of this round: the papers' rounds, cut where the server has the consensus, so
that a client that was not there learns from the newest one.
"""

import collections
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.algorithms import descent, local
from tff_transfer.algorithms.method import Aggregate, Context
from tff_transfer.algorithms.public_examples import PublicExamples
from tff_transfer.errors import UserError
from tff_transfer.options import option


class Consensus(NamedTuple):
    """What clients together say of a round's public examples.

    Attributes:
      answers: What the method makes of theirs, float32 [examples, classes].
      round: The round, which tells the examples, int32 []; 0 if there was none yet.
    """

    answers: Any
    round: Any


@dataclasses.dataclass(frozen=True)
class OnPublicExamples:
    """The options of methods whose clients share answers to public examples."""

    public_clients: int = option(
        2,
        'How many seen clients, drawn, do not train: their training examples, without'
        ' labels, are public.',
        at_least=1,
    )
    examples: int = option(
        500,
        'How many of the public examples a round has, drawn anew; all if there are no'
        ' more.',
        at_least=1,
    )
    epochs: int = option(1, 'Passes of distillation over them in a round.', at_least=1)
    learning_rate: float = option(
        1e-3, "The rate of distillation's Adam, which starts anew.", at_least=0
    )

    def none_yet(self, context: Context) -> Consensus:
        """Returns what there is before any round, arrays."""
        count = min(self.examples, context.public.count)
        nothing = np.zeros([count, context.classes], np.float32)
        return Consensus(nothing, np.int32(0))

    def learned(
        self, context: Context, weights: tuple, consensus: Consensus, number, loss
    ) -> tuple:
        """Returns weights that learned from a consensus, if there is one.

        Args:
          context: What is trained.
          weights: All trained weights.
          consensus: The consensus.
          number: The round in which they learn, on which the order of rows hangs.
          loss: A function of (answers, logits), float32 [batch, classes], to [].
        """
        adam = tff.learning.optimizers.build_adam(self.learning_rate)
        asked = context.public.drawn(self.examples, consensus.round)
        rows = answered(asked, consensus.answers, self.epochs).rows(number)
        learned_from = rows.to(tf.where(consensus.round > 0, rows.last, rows.first))
        return distilled(context, adam, weights, learned_from, loss)

    def client_update(self, context: Context, answer: Callable, loss) -> Callable:
        """Returns what a client does: learn, train, and answer.

        Args:
          context: What it is made for.
          answer: Makes of logits, float32 [examples, classes], what a client tells.
          loss: As of `learned`.
        """

        def client_update(consensus, client):
            own = self.learned(context, client.kept, consensus, client.round, loss)
            trained = local.train(context, own, client)
            own = local.difference(own, trained.delta)
            asked = context.public.drawn(self.examples, client.round)
            predict = local.predictor(context, own, client)
            told = answer(asked.outputs(predict, context.model.output_spec))
            weight = local.weight_of(context, trained.examples)
            sums = {'answers': weight * told, 'weights': weight}
            return local.update(context, client, trained, delta=(), sums=sums, kept=own)

        return client_update


def mean_answers(aggregate: Aggregate):
    """Returns the mean of what clients answered, float32 [examples, classes]."""
    return aggregate.sums['answers'] / aggregate.sums['weights']


def answered(public: PublicExamples, answers, epochs: int) -> PublicExamples:
    """Returns public examples with answers instead of labels, for so many passes."""
    examples = collections.OrderedDict(x=public.examples['x'], y=answers)
    return dataclasses.replace(public, examples=examples, epochs=epochs)


def distilled(
    context: Context,
    optimizer: tff.learning.optimizers.Optimizer,
    weights: tuple,
    batches,
    loss: Callable,
) -> tuple:
    """Returns weights after steps towards answers.

    Args:
      context: The model, without statistics.
      optimizer: What takes the steps; it starts anew.
      weights: All trained weights.
      batches: Whose y are answers; a dataset or `Rows`.
      loss: A function of (answers, logits), float32 [batch, classes], to float32 [].
    """

    def apart(at, batch):
        logits = context.model.functional.predict_on_batch(
            (at, ()), batch['x'], training=True
        )
        return loss(batch['y'], logits)

    return descent.descended(optimizer, weights, batches, apart)


def divergence(teacher, student, temperature: float = 1.0):
    """Returns how far a model's predictions are from a teacher's.

    That is the Kullback-Leibler divergence of the student's softmax from the teacher's,
    both of logits divided by the temperature (Hinton, Vinyals, Dean 2015, "Distilling
    the knowledge in a neural network", section 2, without its factor).

    Args:
      teacher: Its logits, float32 [batch, classes].
      student: The same of the student.
      temperature: The temperature.

    Returns:
      The mean over the batch, float32 [].
    """
    taught = tf.nn.log_softmax(teacher / temperature)
    apart = taught - tf.nn.log_softmax(student / temperature)
    return tf.reduce_mean(tf.reduce_sum(tf.exp(taught) * apart, axis=-1))


def check_no_statistics(context: Context, who: str) -> None:
    """Checks that no BatchNorm layer is trained.

    Raises:
      UserError: One is, so that public examples, of no client, have no statistics.
    """
    if context.model.statistics is not None:
        raise UserError(
            f'{who} distils on public examples, for which BatchNorm layers that are'
            ' trained have no statistics of a client; use --batch_norm=frozen or'
            ' group_norm'
        )

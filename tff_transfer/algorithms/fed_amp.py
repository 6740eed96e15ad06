"""FedAMP: each client's model is drawn to those of other clients that are like it.

Huang et al. 2021, "Personalized cross-silo federated learning on non-IID data",
algorithm 1: the server keeps the model of each client and mixes one for each of them,
in which another client's model has the weight alpha A'(the squared distance of both),
A(x) = 1 - exp(-x / sigma), and its own the rest (equations 4 and 5); the client
minimises its loss plus lambda / (2 alpha) times the squared distance to that mixture,
going on from its own model.

Every client's mixture is another message. In the simulation all models go to all, and
each client mixes its own, which is the same; bytes are those of the paper, one model up
and one down. In the paper all clients take part in each round: here the models of those
that do not stay what they were, and who never took part is in no mixture. Where alpha
is so large that the others' weights come to more than one, which the paper rules out,
they are divided by their sum.
"""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from tff_transfer import memory, vectors
from tff_transfer.algorithms import local
from tff_transfer.algorithms.fed_prox import proximal
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


class Models(NamedTuple):
    """The clients' models.

    Attributes:
      rows: Each as a vector, float32 [population, size].
      known: 1 for those of clients that took part, else 0, float32 [population].
    """

    rows: Any
    known: Any

    def mixture(self, own, number, alpha: float, sigma: float):
        """Returns the mixture for a client.

        Args:
          own: Its model, float32 [size].
          number: Its number, int32 []; -1 if it has no row.
          alpha: How strongly it is drawn to others.
          sigma: From which squared distance on they are unlike.

        Returns:
          float32 [size].
        """
        apart = self.rows - own
        distances = tf.reduce_sum(tf.square(apart), 1)
        others = self.known * tf.one_hot(number, self.known.shape[0], 0.0, 1.0)
        attention = alpha / sigma * tf.exp(-distances / sigma) * others
        attention /= tf.maximum(1.0, tf.reduce_sum(attention))
        return own + tf.linalg.matvec(apart, attention, transpose_a=True)


class Server(NamedTuple):
    """What the server has: the mean of the last round's models, and all of them."""

    weights: tuple
    models: Models


@dataclasses.dataclass(frozen=True)
class FedAMP:
    """Attentive message passing."""

    alpha: float = option(
        0.1, "How strongly a client's model is drawn to others.", above=0
    )
    sigma: float = option(
        1.0, 'The squared distance of two models at which attention fades.', above=0
    )
    lam: float = option(
        0.1, 'Lambda: how strongly a client is held at its mixture.', at_least=0
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        size = sum(weight.size for weight in context.initial)
        population = context.population
        memory.check_fits(
            f'the models of {population:,} clients, which the server keeps,',
            4 * population * size,
            'train less (--finetune, --hidden_units), or use another algorithm',
        )

        def started():
            none = Models(tf.zeros([population, size]), tf.zeros([population]))
            return Server(context.initial, none)

        def client_update(models, client):
            number = -1 if isinstance(client.number, tuple) else client.number
            before = vectors.joined(client.kept)
            mixture = models.mixture(before, number, self.alpha, self.sigma)
            trained = local.train(
                context,
                client.kept,
                client,
                direction=proximal(
                    tuple(vectors.shaped(mixture, client.kept)), self.lam / self.alpha
                ),
            )
            own = local.difference(client.kept, trained.delta)
            place = tf.one_hot(number, population)
            found = Models(place[:, None] * vectors.joined(own), place)
            return local.update(
                context, client, trained, delta=own, sums=found._asdict(), kept=own
            )

        def server_update(server, aggregate):
            rows, known = aggregate.sums['rows'], aggregate.sums['known']
            now = Models(
                tf.where(known[:, None] > 0, rows, server.models.rows),
                tf.maximum(known, server.models.known),
            )
            return Server(aggregate.delta, now)

        return Method(
            started,
            lambda server: server.models,
            client_update,
            server_update,
            kept=lambda: context.initial,
            personal=lambda models, client: client.kept,
            numbered=True,
            computed=('rows', 'known'),
            message=context.initial,
        )

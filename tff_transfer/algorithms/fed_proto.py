"""FedProto: clients share the means of their representations of each class, no weights.

Tan et al. 2022, "FedProto: Federated prototype learning across heterogeneous clients",
algorithm 1: a client trains a model of its own, held by lambda times the distance of
what it represents to the server's prototype of the class, and sends its own prototypes,
the means over its training examples after training. A client predicts the class of the
nearest prototype of the server.

Where paper and authors' code differ: the distance is the code's, of each example of a
batch to its class's prototype, the mean of squared differences over examples and
dimensions. The server's prototype is the mean over all examples of the class, as
equation 6 weighs them, without its further division by the number of clients; with
uniform weights that over clients, as in the code. Here classes that no client of a
round has keep the prototype they had.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tff_transfer.algorithms import local, prototype
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


class Prototypes(NamedTuple):
    """What travels to the clients.

    Attributes:
      means: The prototype of each class, float32 [classes, size].
      known: Which classes have one, bool [classes].
    """

    means: Any
    known: Any


class Server(NamedTuple):
    """What the server has: weights of the start, which never change, and prototypes."""

    weights: tuple
    prototypes: Prototypes


@dataclasses.dataclass(frozen=True)
class FedProto:
    """FedProto."""

    lam: float = option(
        1.0, 'Lambda: how strongly prototypes hold representations.', at_least=0
    )
    predictor: str = option(
        'prototype',
        "What a client's model predicts by: the nearest prototype, or its own last"
        ' layer.',
        choices=('prototype', 'head'),
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        context.check_last_dense('FedProto')
        context.check_trained_representation('FedProto')
        classes, size = context.classes, context.initial[-2].shape[0]

        def client_update(prototypes, client):
            def held(representation, batch):
                labels = batch['y']
                apart = representation - tf.gather(prototypes.means, labels)
                squares = tf.reduce_mean(tf.square(apart), axis=-1)
                known = tf.gather(prototypes.known, labels)
                return self.lam * tf.reduce_mean(tf.where(known, squares, 0.0))

            trained = local.train(context, client.kept, client, regulariser=held)
            own = local.difference(client.kept, trained.delta)
            after = client._replace(personal=trained.personal)
            found = prototype.represented_sums(context, own, after)
            found = prototype.weighed(context, found)
            return local.update(
                context, client, trained, delta=(), sums=found, kept=own
            )

        def server_update(server, aggregate):
            counts = aggregate.sums['counts']
            means = tf.math.divide_no_nan(aggregate.sums['sums'], counts[:, None])
            new, before = counts > 0, server.prototypes
            now = Prototypes(
                tf.where(new[:, None], means, before.means),
                tf.logical_or(new, before.known),
            )
            return server._replace(prototypes=now)

        def by_prototypes(prototypes, client):
            counts = tf.cast(prototypes.known, tf.float32)
            return (*client.kept[:-2], *prototype.scores(counts, prototypes.means))

        none = Prototypes(
            np.zeros([classes, size], np.float32), np.zeros(classes, bool)
        )
        by_head = self.predictor == 'head'
        return Method(
            lambda: Server(context.initial, none),
            lambda server: server.prototypes,
            client_update,
            server_update,
            kept=lambda: context.initial,
            personal=(lambda _, client: client.kept) if by_head else by_prototypes,
        )

"""All examples in one place: the baseline that says what federation costs.

A round is `--client_epochs` passes of the clients' optimizer over the training
examples of all seen clients, shuffled together; nothing travels. The optimizer goes on
from round to round, as in training that knows no rounds: anew in each, momentum and the
like would be lost after each pass.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.algorithms import local
from tff_transfer.algorithms.fed_avg import Server
from tff_transfer.algorithms.method import Context, Method


@dataclasses.dataclass(frozen=True)
class Central:
    """All examples in one place: a round has one client, who holds them."""

    def build(self, context: Context) -> Method:
        """Makes the method."""

        def initialize():
            weights = tuple(map(tf.convert_to_tensor, context.initial))
            specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, weights)
            return Server(weights, context.client_optimizer.initialize(specs))

        def client_update(server, client):
            trained = local.train(
                context, server.weights, client, optimizer_state=server.optimizer
            )
            after = local.difference(server.weights, trained.delta)
            sums = {'weights': after, 'optimizer': trained.optimizer}
            return local.update(context, client, trained, delta=(), sums=sums)

        return Method(
            initialize,
            lambda server: server,
            client_update,
            lambda server, aggregate: Server(**aggregate.sums),
        )

"""SCAFFOLD: control variates take the drift out of the clients' steps.

Karimireddy et al. 2020, "SCAFFOLD: Stochastic controlled averaging for federated
learning", algorithm 1. Weighted by examples, the variates are those of the objective
in which a client counts by its examples; uniform weights are the paper's.
"""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from tff_transfer.algorithms import client_rates, fed_avg, gradients, local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.errors import UserError
from tff_transfer.options import option


class Server(NamedTuple):
    """What the server has: weights, its optimizer's state and its control variate."""

    weights: tuple
    optimizer: Any
    variate: tuple


@dataclasses.dataclass(frozen=True)
class Scaffold:
    """SCAFFOLD."""

    variates: str = option(
        'II',
        "How a client's variate is made anew: I, the gradient of all its examples at"
        ' the weights that it got, which costs a pass more; II, the mean of the'
        ' gradients that it followed.',
        choices=('I', 'II'),
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        momentum = client_rates.sgd_momentum(context, 'SCAFFOLD')
        if momentum:
            raise UserError(
                'SCAFFOLD is defined for SGD without momentum on the clients; leave'
                ' --client_momentum out'
            )

        def client_update(message, client):
            weights, variate = message
            correction = tf.nest.map_structure(tf.subtract, variate, client.kept)
            trained = local.train(
                context,
                weights,
                client,
                direction=gradients.corrected(
                    lambda gradient, _: tf.nest.map_structure(
                        tf.add, gradient, correction
                    )
                ),
            )
            if self.variates == 'I':
                now, _ = gradients.mean_gradient(context, weights, client)
            else:
                followed = client_rates.rate_of(context, client) * trained.steps
                now = tuple(
                    tf.math.divide_no_nan(delta, followed) - c
                    for delta, c in zip(trained.delta, correction, strict=True)
                )
            moved = tf.nest.map_structure(tf.subtract, now, client.kept)
            return local.update(
                context, client, trained, delta=(trained.delta, moved), kept=now
            )

        def server_update(server, aggregate):
            delta, moved = aggregate.delta
            stepped = fed_avg.server_step(
                context, server, aggregate._replace(delta=delta)
            )
            share = aggregate.clients / context.population
            variate = tuple(
                c + share * m for c, m in zip(server.variate, moved, strict=True)
            )
            return Server(*stepped, variate)

        return Method(
            lambda: Server(*fed_avg.initial_server(context), context.zeros()),
            lambda server: (server.weights, server.variate),
            client_update,
            server_update,
            kept=context.zeros,
        )

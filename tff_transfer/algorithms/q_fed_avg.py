"""q-FedAvg: clients count the more, the worse the model is for them (q-FFL).

Li et al. 2020, "Fair resource allocation in federated learning", algorithm 2. Its
Lipschitz constant L is one over the clients' learning rate, as there.
"""

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from tff_transfer.algorithms import client_rates, local
from tff_transfer.algorithms.fed_exp import squared_norm
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


class Server(NamedTuple):
    """What the server has: the weights."""

    weights: tuple


@dataclasses.dataclass(frozen=True)
class QFedAvg:
    """q-FedAvg."""

    q: float = option(1.0, 'How fair: 0 is federated averaging.', at_least=0)

    def build(self, context: Context) -> Method:
        """Makes the method."""
        client_rates.sgd_momentum(context, 'q-FedAvg')

        def client_update(weights, client):
            rate = client_rates.rate_of(context, client)
            at_start = local.summed_loss(context, weights, client)
            trained = local.train(
                context, weights, client, watch=lambda batch, _: at_start(batch)
            )
            loss = tf.math.divide_no_nan(trained.watched, trained.examples) + 1e-10
            # Algorithm 2's gradient, L times the distance, with L one over the rate.
            power = loss**self.q
            squared = squared_norm(trained.delta) / rate**2
            h = self.q * loss ** (self.q - 1) * squared + power / rate
            plain = local.update(context, client, trained)
            return plain._replace(
                delta=tuple(power / rate * d for d in trained.delta),
                sums={'h': plain.weight * h, 'weight': plain.weight},
            )

        def server_update(server, aggregate):
            mean_h = aggregate.sums['h'] / aggregate.sums['weight']
            return Server(
                tuple(
                    w - delta / mean_h
                    for w, delta in zip(server.weights, aggregate.delta, strict=True)
                )
            )

        return Method(
            lambda: Server(context.initial),
            lambda server: server.weights,
            client_update,
            server_update,
        )

"""FedNova: updates of unlike numbers of local steps, normalised before the mean.

Wang et al. 2020, "Tackling the objective inconsistency problem in heterogeneous
federated optimization", equations 5 to 10; with momentum and the proximal term on
the clients as in its section 4. A client's update is divided by how far it would have
gone had all its gradients been one and the same.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.algorithms import client_rates, fed_avg, local
from tff_transfer.algorithms.fed_prox import proximal
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class FedNova:
    """FedNova."""

    mu: float = option(
        0.0, 'The weight of the proximal term, as of FedProx.', at_least=0
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        momentum = client_rates.sgd_momentum(context, 'FedNova')

        def client_update(weights, client):
            rate = client_rates.rate_of(context, client)
            trained = local.train(
                context, weights, client, direction=proximal(weights, self.mu)
            )
            norm = accumulated(trained.steps, rate, momentum, self.mu)
            if not isinstance(client.rate, tuple):
                # By the rate that all have: who takes longer steps goes farther.
                norm *= client.rate
            plain = local.update(context, client, trained)
            return plain._replace(
                delta=tuple(tf.math.divide_no_nan(d, norm) for d in trained.delta),
                sums={'norm': plain.weight * norm, 'weight': plain.weight},
            )

        def server_update(server, aggregate):
            effective = aggregate.sums['norm'] / aggregate.sums['weight']
            delta = tuple(effective * d for d in aggregate.delta)
            return fed_avg.server_step(context, server, aggregate._replace(delta=delta))

        return Method(
            lambda: fed_avg.initial_server(context),
            lambda server: server.weights,
            client_update,
            server_update,
        )


def accumulated(steps, rate, momentum, mu):
    """Returns the sum of what each gradient counts for in a client's update.

    The paper's ||a_i||_1: the distance after `steps` of momentum SGD with a proximal
    term, by learning rate, where every gradient is 1.
    """
    _, buffer, distance = tf.while_loop(
        lambda step, *_: step < steps,
        lambda step, buffer, distance: (
            step + 1,
            (now := momentum * buffer + 1 - mu * rate * distance),
            distance + now,
        ),
        (tf.constant(0.0), tf.constant(0.0), tf.constant(0.0)),
    )
    return distance

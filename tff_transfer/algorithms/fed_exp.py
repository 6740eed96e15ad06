"""FedExP: the server extrapolates, the further the less the clients agree.

Jhunjhunwala et al. 2023, "FedExP: Speeding up federated averaging via extrapolation",
algorithm 1 and equation 8. What is evaluated is the mean of the last two iterates, as
in its section 5.
"""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from tff_transfer.algorithms import local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


class Server(NamedTuple):
    """What the server has: weights, those of the round before, its last step size."""

    weights: tuple
    before: tuple
    step_size: Any


@dataclasses.dataclass(frozen=True)
class FedExP:
    """FedExP."""

    epsilon: float = option(
        1e-3, 'Added to the squared norm of the mean update.', at_least=0
    )
    average_last_two: bool = option(True, 'Evaluate the mean of the last two iterates.')

    def build(self, context: Context) -> Method:
        """Makes the method."""

        def client_update(weights, client):
            trained = local.train(context, weights, client)
            plain = local.update(context, client, trained)
            norm = plain.weight * squared_norm(trained.delta)
            return plain._replace(sums={'norm': norm, 'weight': plain.weight})

        def server_update(server, aggregate):
            mean_norm = aggregate.sums['norm'] / aggregate.sums['weight']
            of_mean = squared_norm(aggregate.delta) + self.epsilon
            rate = tf.maximum(1.0, mean_norm / (2 * of_mean))
            weights = tuple(
                w - rate * delta
                for w, delta in zip(server.weights, aggregate.delta, strict=True)
            )
            return Server(weights, server.weights, rate)

        def mean_of_two(server):
            pairs = zip(server.weights, server.before, strict=True)
            return tuple((now + before) / 2 for now, before in pairs)

        method = Method(
            lambda: Server(context.initial, context.initial, tf.constant(1.0)),
            lambda server: server.weights,
            client_update,
            server_update,
            with_weights=lambda server, weights: Server(
                weights, weights, server.step_size
            ),
            measured=lambda server: {'step_size': server.step_size},
        )
        if self.average_last_two:
            return dataclasses.replace(method, evaluated=mean_of_two)
        return method


def squared_norm(values: tuple):
    """Returns the sum of all squares, float32 []."""
    return tf.add_n([tf.reduce_sum(tf.square(value)) for value in values])

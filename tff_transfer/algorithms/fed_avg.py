"""Federated averaging, with an optimizer on the server.

McMahan et al. 2017, "Communication-efficient learning of deep networks from
decentralized data", algorithm 1; with a server optimizer, Reddi et al. 2021,
"Adaptive federated optimization", algorithm 1. TFF's own is
`tff.learning.algorithms.build_weighted_fed_avg`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tff_transfer.algorithms import client_rates, gradients, local
from tff_transfer.algorithms.method import Context, Method


class Server(NamedTuple):
    """What the server has.

    Attributes:
      weights: The shared trained weights.
      optimizer: The state of its optimizer.
    """

    weights: tuple
    optimizer: Any


@dataclasses.dataclass(frozen=True)
class FedAvg:
    """Federated averaging."""

    def build(self, context: Context) -> Method:
        """Makes the method."""
        return averaging(context)


def averaging(
    context: Context, direction: Callable | None = None, loss: Callable | None = None
) -> Method:
    """Makes federated averaging with another way of training on the clients.

    Args:
      context: What it is made for.
      direction: Makes of the weights that a client gets, and of the `Client`, the
        `gradients.Direction` that it follows; the gradient if not given.
      loss: Makes of the `Client` the function of (logits, labels) that it minimises;
        the model's loss if not given.
    """

    def client_update(weights, client):
        trained = local.train(
            context,
            weights,
            client,
            direction=direction(weights, client) if direction else gradients.plain,
            loss=loss and loss(client),
        )
        return local.update(context, client, trained)

    return Method(
        lambda: initial_server(context),
        lambda server: server.weights,
        client_update,
        lambda server, aggregate: server_step(context, server, aggregate),
    )


def initial_server(context: Context) -> Server:
    """Returns the server's state at the start."""
    return server_from(context, tuple(map(tf.convert_to_tensor, context.initial)))


def server_from(context: Context, weights: tuple) -> Server:
    """Returns the server's state that starts from some weights."""
    specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, weights)
    return Server(weights, context.server_optimizer.initialize(specs))


def server_step(context: Context, server: Server, aggregate) -> Server:
    """Takes a step of the server's optimizer against the clients' mean delta."""
    optimizer, schedule = context.server_optimizer, context.server_schedule
    factor = None if schedule is None else schedule(aggregate.round)
    state = client_rates.scheduled(optimizer, server.optimizer, factor)
    state, weights = optimizer.next(state, server.weights, aggregate.delta)
    return Server(tuple(weights), state)

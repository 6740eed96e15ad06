"""Mime and Mime Lite: clients take the steps that a central optimizer would.

Karimireddy et al. 2021, "Breaking the centralized barrier for cross-device federated
learning", algorithm 1. The optimizer's state comes from the server and stays as it is
on the clients; the server moves it by the clients' mean gradient at the weights that
it sent. Mime also corrects each of their gradients as SVRG does, for which that mean
gradient travels back first: a second round of communication. TFF's own Mime Lite is
`tff.learning.algorithms.build_weighted_mime_lite`.
"""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.algorithms import client_rates, fed_avg, gradients, local
from tff_transfer.algorithms.method import Client, Context, Method
from tff_transfer.errors import UserError


class Server(NamedTuple):
    """What the server has.

    Attributes:
      weights: The shared trained weights.
      optimizer: The state of its own optimizer, for the clients' mean delta.
      base: The state of the optimizer that clients apply.
    """

    weights: tuple
    optimizer: Any
    base: Any


@dataclasses.dataclass(frozen=True)
class MimeLite:
    """Mime Lite."""

    def build(self, context: Context) -> Method:
        """Makes the method."""

        def client_update(message, client):
            weights, base = message
            gradient, _ = gradients.mean_gradient(context, weights, client)
            trained = local.train(
                context, weights, client, optimizer=_Fixed(context, base, client)
            )
            return local.update(
                context, client, trained, delta=(trained.delta, gradient)
            )

        def server_update(server, aggregate):
            delta, gradient = aggregate.delta
            return _moved(context, server, aggregate._replace(delta=delta), gradient)

        return Method(
            lambda: _initial(context),
            lambda server: (server.weights, server.base),
            client_update,
            server_update,
        )


@dataclasses.dataclass(frozen=True)
class Mime:
    """Mime."""

    def build(self, context: Context) -> Method:
        """Makes the method."""

        def gather(message, client):
            gradient, examples = gradients.mean_gradient(context, message[0], client)
            return gradient, local.weight_of(context, examples)

        def client_update(message, client, gathered):
            start, base = message

            def direction(gradient_of, weights, batch):
                here, there = gradient_of(weights, batch), gradient_of(start, batch)
                return here._replace(
                    shared=tuple(
                        h - t + c
                        for h, t, c in zip(
                            here.shared, there.shared, gathered, strict=True
                        )
                    )
                )

            trained = local.train(
                context,
                start,
                client,
                direction=direction,
                optimizer=_Fixed(context, base, client),
            )
            return local.update(context, client, trained)

        return Method(
            lambda: _initial(context),
            lambda server: (server.weights, server.base),
            client_update,
            lambda server, aggregate, gathered: _moved(
                context, server, aggregate, gathered
            ),
            gather=gather,
        )


class _Fixed(tff.learning.optimizers.Optimizer):
    """The clients' optimizer with a state that came from the server and stays."""

    def __init__(self, context: Context, base, client: Client):
        self._optimizer = context.client_optimizer
        factor = client_rates.rate_factor(context, client)
        self._base = client_rates.scheduled(self._optimizer, base, factor)

    def initialize(self, specs):
        """Returns nothing: the state is the server's."""
        return ()

    def next(self, state, weights, gradients):
        """Takes a step from the server's state."""
        _, weights = self._optimizer.next(self._base, weights, gradients)
        return state, weights


def _initial(context: Context) -> Server:
    if context.personal:
        raise UserError(
            "Mime keeps its optimizer's state on the server, which has none for weights"
            ' that stay with the clients; use another algorithm'
        )
    started = fed_avg.initial_server(context)
    specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, started.weights)
    return Server(*started, context.client_optimizer.initialize(specs))


def _moved(context: Context, server: Server, aggregate, gradient) -> Server:
    stepped = fed_avg.server_step(context, server, aggregate)
    base, _ = context.client_optimizer.next(server.base, server.weights, gradient)
    return Server(*stepped, base)

"""FedDyn: dynamic regularisation makes the clients' optima agree with the server's.

Acar et al. 2021, "Federated learning based on dynamic regularization", algorithm 1.
The mean over clients is uniform there; by examples is what its authors' code offers.
"""

import dataclasses
from typing import NamedTuple

from tff_transfer.algorithms import gradients, local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


class Server(NamedTuple):
    """What the server has: weights, and the mean drift of all clients, `h`."""

    weights: tuple
    drift: tuple


@dataclasses.dataclass(frozen=True)
class FedDyn:
    """FedDyn."""

    alpha: float = option(0.01, 'How strongly clients are regularised.', above=0)

    def build(self, context: Context) -> Method:
        """Makes the method."""

        def client_update(weights, client):
            # Here and not in `correct`, which is done in each step.
            back = tuple(
                k + self.alpha * start
                for k, start in zip(client.kept, weights, strict=True)
            )

            def correct(gradient, at):
                return tuple(
                    g + (self.alpha * w - b)
                    for g, w, b in zip(gradient, at, back, strict=True)
                )

            trained = local.train(
                context, weights, client, direction=gradients.corrected(correct)
            )
            kept = tuple(
                k + self.alpha * delta
                for k, delta in zip(client.kept, trained.delta, strict=True)
            )
            return local.update(context, client, trained, kept=kept)

        def server_update(server, aggregate):
            share = aggregate.clients / context.population
            drift = tuple(
                h + self.alpha * share * delta
                for h, delta in zip(server.drift, aggregate.delta, strict=True)
            )
            weights = tuple(
                w - delta - h / self.alpha
                for w, delta, h in zip(
                    server.weights, aggregate.delta, drift, strict=True
                )
            )
            return Server(weights, drift)

        return Method(
            lambda: Server(context.initial, context.zeros()),
            lambda server: server.weights,
            client_update,
            server_update,
            kept=context.zeros,
        )

"""APFL: each client's model is a mixture of its own and the server's.

Deng, Kamani, Mahdavi 2020, "Adaptive personalized federated learning", algorithm 1,
with one alpha for all clients: own weights v follow the gradient of the loss of
alpha v + (1 - alpha) w, where w are the weights that the client trains for the server.
"""

import dataclasses

from tff_transfer.algorithms import fed_avg, local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class APFL:
    """Adaptive personalized federated learning."""

    alpha: float = option(
        0.5,
        "The share of a client's own weights in its mixture; 0 is federated averaging.",
        at_least=0,
        at_most=1,
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        count = len(context.initial)

        def mixed(own, shared):
            return tuple(
                self.alpha * v + (1 - self.alpha) * w
                for v, w in zip(own, shared, strict=True)
            )

        def both(gradient_of, values, batch):
            shared, own = values[:count], values[count:]
            found = gradient_of(shared, batch)
            of_mixture = gradient_of(mixed(own, shared), batch)
            of_own = tuple(self.alpha * g for g in of_mixture.shared)
            return found._replace(shared=(*found.shared, *of_own))

        def client_update(weights, client):
            return local.update_beside(context, weights, client, both)

        return dataclasses.replace(
            fed_avg.averaging(context),
            client_update=client_update,
            kept=lambda: context.initial,
            personal=lambda message, client: mixed(client.kept, message),
        )

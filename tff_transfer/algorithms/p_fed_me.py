"""pFedMe: a client's own model is the proximal point of the weights that it trains.

Dinh, Tran, Nguyen 2020, "Personalized federated learning with Moreau envelopes",
algorithm 1. For each batch the own model takes some steps towards the minimum of its
loss plus lambda / 2 times the squared distance to the client's weights, going on from
where it was, as in the authors' code; then the weights move towards it. The server's
beta is the learning rate of its SGD.
"""

import dataclasses

from tff_transfer.algorithms import client_rates, fed_avg, local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class PFedMe:
    """pFedMe."""

    lam: float = option(15.0, 'Lambda: how strongly own models are held.', above=0)
    steps: int = option(5, 'Steps of the own model for a batch.', at_least=1)
    own_learning_rate: float = option(
        0.005, 'The learning rate of these steps.', above=0
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        client_rates.sgd_momentum(context, 'pFedMe')
        count = len(context.initial)

        def client_update(weights, client):
            rate = client_rates.rate_of(context, client)

            def direction(gradient_of, values, batch):
                shared, before = values[:count], values[count:]
                found, own = gradient_of(shared, batch), before
                for _ in range(self.steps):
                    gradient = gradient_of(own, batch).shared
                    own = tuple(
                        v - self.own_learning_rate * (g + self.lam * (v - w))
                        for v, g, w in zip(own, gradient, shared, strict=True)
                    )
                towards = tuple(
                    self.lam * (w - v) for w, v in zip(shared, own, strict=True)
                )
                # The step of the clients' SGD that follows ends at `own`.
                moved = tuple((b - v) / rate for b, v in zip(before, own, strict=True))
                return found._replace(shared=(*towards, *moved))

            return local.update_beside(context, weights, client, direction)

        return dataclasses.replace(
            fed_avg.averaging(context),
            client_update=client_update,
            kept=lambda: context.initial,
            personal=lambda message, client: client.kept,
        )

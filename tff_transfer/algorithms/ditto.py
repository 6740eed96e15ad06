"""Ditto: each client has a model of its own, held near the server's.

Li et al. 2021, "Ditto: Fair and robust federated learning through personalization",
algorithm 1: the server's model is federated averaging's, and each client that takes
part also minimises its loss plus lambda / 2 times the squared distance of its own model
to the weights that it got. Both follow the same batches.
"""

import dataclasses

from tff_transfer.algorithms import fed_avg, gradients, local
from tff_transfer.algorithms.fed_prox import proximal
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class Ditto:
    """Ditto."""

    lam: float = option(
        0.1, 'Lambda: how strongly own models are held; 0, not at all.', at_least=0
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        count = len(context.initial)

        def client_update(weights, client):
            both = gradients.beside(gradients.plain, proximal(weights, self.lam), count)
            return local.update_beside(context, weights, client, both)

        return dataclasses.replace(
            fed_avg.averaging(context),
            client_update=client_update,
            kept=lambda: context.initial,
            personal=lambda message, client: client.kept,
        )

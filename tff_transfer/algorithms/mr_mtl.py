"""MR-MTL: clients' own models, each held near the mean of all.

Mean-regularised multi-task learning, Liu et al. 2022, "On privacy and personalization
in cross-silo federated learning", section 4 and algorithm A1: a client goes on from its
own model, minimises its loss plus lambda / 2 times the squared distance to the mean
that it got, and sends its model for the next mean.
"""

import dataclasses

from tff_transfer.algorithms import fed_avg, local
from tff_transfer.algorithms.fed_prox import proximal
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class MRMTL:
    """Mean-regularised multi-task learning."""

    lam: float = option(
        0.1, 'Lambda: how strongly own models are held; 0, not at all.', at_least=0
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""

        def client_update(weights, client):
            trained = local.train(
                context, client.kept, client, direction=proximal(weights, self.lam)
            )
            own = local.difference(client.kept, trained.delta)
            delta = local.difference(weights, own)
            return local.update(context, client, trained, delta=delta, kept=own)

        return dataclasses.replace(
            fed_avg.averaging(context),
            client_update=client_update,
            kept=lambda: context.initial,
            personal=lambda message, client: client.kept,
        )

"""FedRep: first the client's own head, then the shared representation.

Collins et al. 2021, "Exploiting shared representations for personalized federated
learning", algorithm 1. A client trains its own layers on all of its batches with the
shared ones as they came, then the shared ones with its own as they are now; the
authors' code has one epoch for the latter, here both have `--client_epochs`.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.algorithms import fed_avg, gradients, local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class FedRep:
    """FedRep."""

    parts: tuple[str, ...] = option(
        ('head',), "The model's parts that stay with each client."
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        context.check_divided()

        def client_update(weights, client):
            own = local.train(context, weights, client, direction=_own_alone)
            ready = client._replace(personal=own.personal)
            trained = local.train(context, weights, ready, direction=_shared_alone)
            return local.update(context, client, trained)

        return dataclasses.replace(
            fed_avg.averaging(context), client_update=client_update
        )


def _own_alone(gradient_of, weights, batch) -> gradients.Gradient:
    found = gradient_of(weights, batch)
    return found._replace(shared=tuple(map(tf.zeros_like, found.shared)))


def _shared_alone(gradient_of, weights, batch) -> gradients.Gradient:
    found = gradient_of(weights, batch)
    return found._replace(personal=tuple(map(tf.zeros_like, found.personal)))

"""FedRecon: some parts are reconstructed by each client in each round, and forgotten.

Singhal et al. 2021, "Federated reconstruction: Partially local federated learning",
algorithm 1: a client trains the local parts from their start with the shared ones as
they came, then the shared ones with the local ones as they are now. The local parts of
a client's own model are reconstructed on its training examples. TFF's own is
`tff.learning.algorithms.build_fed_recon`.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.algorithms import gradients, local
from tff_transfer.algorithms.method import Client, Context, Method
from tff_transfer.algorithms.partial import Partial
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class FedRecon:
    """FedRecon."""

    reconstructed: tuple[str, ...] = option(
        ('head',), "The model's parts that each client reconstructs."
    )
    split: bool = option(
        False,
        "Reconstruct on every other of a round's batches, from the first, and train on"
        ' those between; else both on all. With one batch a client trains nothing.',
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        partial = Partial(context, self.reconstructed)
        inner = partial.inner
        local_alone = gradients.only(inner, context.numbers(self.reconstructed))
        shared_alone = gradients.only(inner, partial.federated)

        def batches(client, remainder: int) -> Client:
            if not self.split:
                return client
            return client._replace(batches=_alternate(client.batches, remainder))

        def train(weights, client):
            support = batches(client, 0)
            own = local.train(inner, weights, support, direction=local_alone).personal
            query = batches(client, 1)._replace(personal=own)
            return local.train(inner, weights, query, direction=shared_alone)

        def adapt(weights, client) -> Client:
            begun = partial.begun(client)
            own = local.train(inner, weights, begun, direction=local_alone).personal
            shared, personal = partial.whole(weights, own)
            return client._replace(kept=shared, personal=personal)

        return dataclasses.replace(
            partial.averaging(train),
            adapt=adapt,
            personal=lambda weights, client: client.kept,
        )


def _alternate(batches, remainder: int):
    """Returns every other batch, from the first or the second on."""

    def chosen(number, _):
        return tf.equal(number % 2, remainder)

    return batches.enumerate().filter(chosen).map(lambda _, batch: batch)

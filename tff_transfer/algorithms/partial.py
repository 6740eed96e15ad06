"""Federated averaging of a part of the model, whose rest each client begins anew.

The rest is what the model's initial weights have of it: it neither travels nor stays.
"""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from tff_transfer.algorithms import fed_avg, local
from tff_transfer.algorithms.method import Client, Context, Method


@dataclasses.dataclass(frozen=True)
class Partial:
    """A model, some parts of which take no part in the federation.

    Attributes:
      context: What the method is made for.
      rest: The names of these parts.

    Raises:
      UserError: The model has no such part, or nothing else, or nothing of it.
    """

    context: Context
    rest: Sequence[str]

    def __post_init__(self):
        self.inner.check_divided()

    @property
    def inner(self) -> Context:
        """The context in which the rest is the client's own."""
        return dataclasses.replace(self.context, parts=self.rest)

    @property
    def federated(self) -> frozenset[int]:
        """The numbers of the trained weights that are not of the rest."""
        count = len(self.context.model.functional.initial_weights[0])
        return frozenset(range(count)) - self.context.numbers(self.rest)

    def begun(self, client: Client) -> Client:
        """Returns a client that has the rest as it begins, in the inner context."""
        trained = self.context.join(self.context.initial, client.personal)
        _, rest = self.inner.split(map(tf.convert_to_tensor, trained))
        return client._replace(personal=rest)

    def whole(self, weights: tuple, personal: tuple) -> tuple[tuple, tuple]:
        """Returns the outer context's shared and personal weights of the inner's."""
        return self.context.split(self.inner.join(weights, personal))

    def with_start(self, weights: tuple) -> tuple:
        """Returns the outer context's shared weights, the rest as it begins."""
        initial = self.context.model.functional.initial_weights[0]
        _, rest = self.inner.split(map(tf.convert_to_tensor, initial))
        return self.whole(weights, rest)[0]

    def averaging(self, train: Callable[[tuple, Client], local.Trained]) -> Method:
        """Makes federated averaging of what is not of the rest.

        Args:
          train: A client's training in the inner context, of the weights that it gets
            and what `begun` gives.
        """
        initial = self.context.model.functional.initial_weights[0]

        def client_update(weights, client):
            trained = train(weights, self.begun(client))
            _, personal = self.whole(weights, trained.personal)
            return local.update(self.context, client, trained, personal=personal)

        def with_weights(server, weights):
            trained = self.context.join(weights, self.context.split(initial)[1])
            return server._replace(weights=self.inner.split(trained)[0])

        return dataclasses.replace(
            fed_avg.averaging(self.inner),
            client_update=client_update,
            evaluated=lambda server: self.with_start(server.weights),
            with_weights=with_weights,
        )

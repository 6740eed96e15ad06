"""Each client alone: the baseline that says what joining brings.

A client trains a model of its own from the common start, round after round, on its own
examples; nothing travels.
"""

import dataclasses
from typing import NamedTuple

from tff_transfer.algorithms import local
from tff_transfer.algorithms.method import Context, Method


class Server(NamedTuple):
    """What the server has: the weights of the start, which never change."""

    weights: tuple


@dataclasses.dataclass(frozen=True)
class Local:
    """Each client alone."""

    def build(self, context: Context) -> Method:
        """Makes the method."""

        def client_update(message, client):
            del message
            trained = local.train(context, client.kept, client)
            own = local.difference(client.kept, trained.delta)
            return local.update(context, client, trained, delta=(), kept=own)

        return Method(
            lambda: Server(context.initial),
            lambda server: (),
            client_update,
            lambda server, aggregate: server,
            kept=lambda: context.initial,
            personal=lambda message, client: client.kept,
        )

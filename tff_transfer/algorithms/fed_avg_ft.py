"""Federated averaging, then fine-tuning by each client: hard to beat.

Wu et al. 2022, "Motley: Benchmarking heterogeneity and personalization in federated
learning", section 3: the model of federated averaging is fine-tuned on a client's
training examples before its test examples judge it. How many epochs that takes is
chosen once for all clients, on held-out examples (`--adaptation_epochs`).
"""

import dataclasses

from tff_transfer.algorithms import fed_avg, gradients, local
from tff_transfer.algorithms.method import Client, Context, Method
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class FedAvgFT:
    """FedAvg with fine-tuning."""

    tuned: tuple[str, ...] = option(
        (), "The model's parts that a client fine-tunes; all if not given."
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        return fine_tuned(fed_avg.averaging(context), context, self.tuned)


def fine_tuned(method: Method, context: Context, parts: tuple[str, ...]) -> Method:
    """Makes clients fine-tune a method's model before it is used.

    Args:
      method: The method, whose message to clients is the shared weights.
      context: What it is made for.
      parts: The model's parts that move; all if none are named.

    Raises:
      UserError: The model has no such part.
    """
    direction = (
        gradients.only(context, context.numbers(parts)) if parts else gradients.plain
    )

    def adapt(weights, client) -> Client:
        trained = local.train(context, weights, client, direction=direction)
        own = local.difference(weights, trained.delta)
        return client._replace(kept=own, personal=trained.personal)

    return dataclasses.replace(
        method, adapt=adapt, personal=lambda weights, client: client.kept
    )

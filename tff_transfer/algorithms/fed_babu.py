"""FedBABU: the body is trained together, under a head that stays as it began.

Oh, Kim, Yun 2022, "FedBABU: Toward enhanced representation for federated image
classification", algorithm 1: clients train the body alone, and before its test examples
judge a client it fine-tunes the whole model, or a part of it, on its training examples.
"""

import dataclasses

import numpy as np

from tff_transfer.algorithms import gradients, local
from tff_transfer.algorithms.fed_avg_ft import fine_tuned
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.algorithms.partial import Partial
from tff_transfer.errors import UserError
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class FedBABU:
    """FedBABU."""

    tuned: tuple[str, ...] = option(
        (), "The model's parts that a client fine-tunes; all if not given."
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        partial = Partial(context, ('head',))
        initial = context.model.functional.initial_weights[0]
        if not any(np.any(initial[number]) for number in context.numbers(('head',))):
            raise UserError(
                'FedBABU leaves the head as it begins, but this one begins at zero,'
                ' under which nothing learns; use --hidden_units or --head=cosine'
            )
        direction = gradients.only(partial.inner, partial.federated)

        def train(weights, client):
            return local.train(partial.inner, weights, client, direction=direction)

        made = fine_tuned(partial.averaging(train), context, self.tuned)
        return dataclasses.replace(
            made,
            adapt=lambda weights, client: made.adapt(
                partial.with_start(weights), client
            ),
        )

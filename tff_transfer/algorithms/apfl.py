"""APFL: each client's model is a mixture of its own and the server's.

Deng, Kamani, Mahdavi 2020, "Adaptive personalized federated learning", algorithm 1: own
weights v follow the gradient of the loss of alpha v + (1 - alpha) w, where w are the
weights that the client trains for the server. Alpha is one for all clients, or each
client's own, which follows the gradient of the same loss (equation 10) in each step and
stays in [0, 1].
"""

import dataclasses

import numpy as np
import tensorflow as tf

from tff_transfer.algorithms import client_rates, fed_avg, local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.errors import UserError
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
    adaptive_alpha: bool = option(
        False, 'Each client learns an alpha of its own, from this one on.'
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        if self.adaptive_alpha:
            momentum = client_rates.sgd_momentum(context, 'APFL with an adaptive alpha')
            if momentum:
                raise UserError(
                    'APFL with an adaptive alpha is defined for SGD without momentum on'
                    ' the clients; leave --client_momentum out'
                )
        count = len(context.initial)

        def parted(kept):
            """Returns own weights, and alpha."""
            if not self.adaptive_alpha:
                return kept, self.alpha
            return kept[:count], kept[count]

        def mixed(kept, shared):
            own, alpha = parted(kept)
            return tuple(
                alpha * v + (1 - alpha) * w for v, w in zip(own, shared, strict=True)
            )

        def both(rate):
            def direction(gradient_of, values, batch):
                shared, kept = values[:count], values[count:]
                own, alpha = parted(kept)
                found = gradient_of(shared, batch)
                of_mixture = gradient_of(mixed(kept, shared), batch).shared
                moves = tuple(alpha * g for g in of_mixture)
                if self.adaptive_alpha:
                    apart = local.difference(own, shared)
                    slope = sum(map(_product, apart, of_mixture))
                    after = tf.clip_by_value(alpha - rate * slope, 0.0, 1.0)
                    # What SGD makes `after` of; at a rate of 0 nothing moves.
                    moves += (tf.math.divide_no_nan(alpha - after, rate),)
                return found._replace(shared=(*found.shared, *moves))

            return direction

        def client_update(weights, client):
            rate = (
                client_rates.rate_of(context, client) if self.adaptive_alpha else None
            )
            return local.update_beside(context, weights, client, both(rate))

        alpha = (np.float32(self.alpha),) if self.adaptive_alpha else ()
        return dataclasses.replace(
            fed_avg.averaging(context),
            client_update=client_update,
            kept=lambda: (*context.initial, *alpha),
            personal=lambda message, client: mixed(client.kept, message),
        )


def _product(first, second):
    return tf.reduce_sum(first * second)

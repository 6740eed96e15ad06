"""FedALA: each client mixes the server's weights into its own, element by element.

Zhang et al. 2023, "FedALA: Adaptive local aggregation for personalized federated
learning", algorithm 1. Before it trains, a client makes its weights
`own + (server - own) * mixing` in the layers near the output, and takes the server's in
those below. Each element of `mixing`, in [0, 1], follows the gradient of the loss on
some of the client's batches, stays with the client and starts at one, which is the
server's weights. A client's model is what it comes to by training from there.

The paper counts layers from the output, p of them, 1 by default; here they are parts of
the model, of which the head is the last layer. The paper learns a client's first mixing
to convergence and later ones in one pass; here all have one, whose cost is known.
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tff_transfer.algorithms import fed_avg, gradients, local
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


class Kept(NamedTuple):
    """What a client keeps.

    Attributes:
      weights: Its own shared weights after its last round.
      mixing: For each of those that are mixed, float32 of its shape.
      took_part: Whether there was one, bool [].
    """

    weights: tuple
    mixing: tuple
    took_part: Any


@dataclasses.dataclass(frozen=True)
class FedALA:
    """FedALA."""

    mixed: tuple[str, ...] = option(
        ('head',), "The model's parts that are mixed; with none it is FedAvg."
    )
    eta: float = option(1.0, 'The learning rate of the mixing weights.', at_least=0)
    share: float = option(
        0.8,
        "The share of a round's batches that they are learned on (the paper's s).",
        above=0,
        at_most=1,
    )

    def build(self, context: Context) -> Method:
        """Makes the method.

        Raises:
          UserError: The model has no such part.
        """
        numbers = context.numbers(self.mixed)
        count = len(context.model.functional.initial_weights[0])
        mixed, _ = context.split([number in numbers for number in range(count)])

        def of_mixed(values):
            return tuple(itertools.compress(values, mixed))

        def mixture(weights, apart, mixing):
            """Returns the weights that a client trains from."""
            back = iter([(1 - m) * a for m, a in zip(mixing, apart, strict=True)])
            pairs = zip(weights, mixed, strict=True)
            return tuple(w - next(back) if mix else w for w, mix in pairs)

        def learned(weights, apart, client):
            """Returns the mixing weights that a client comes to."""
            gradient = gradients.gradient_function(context, client)
            batches = client.batches.reduce(0.0, lambda count, _: count + 1)
            used = tf.math.ceil(self.share * batches)

            def step(state, batch):
                number, mixing = state

                def moved():
                    at = mixture(weights, apart, mixing)
                    found = gradient(at, client.personal, batch).shared
                    return tuple(
                        tf.clip_by_value(m - self.eta * g * a, 0, 1)
                        for m, g, a in zip(mixing, of_mixed(found), apart, strict=True)
                    )

                return number + 1, tf.cond(number < used, moved, lambda: mixing)

            # In a client's first round `apart` is zero, and nothing moves.
            _, mixing = client.batches.reduce((0.0, client.kept.mixing), step)
            return mixing

        def client_update(weights, client):
            kept = client.kept
            before = tuple(
                tf.where(kept.took_part, own, start)
                for own, start in zip(kept.weights, weights, strict=True)
            )
            apart = of_mixed(local.difference(weights, before))
            mixing = learned(weights, apart, client) if apart else ()
            start = mixture(weights, apart, mixing)
            trained = local.train(context, start, client)
            own = local.difference(start, trained.delta)
            delta = local.difference(weights, own)
            now = Kept(own, mixing, tf.constant(True))
            return local.update(context, client, trained, delta=delta, kept=now)

        ones = tuple(map(np.ones_like, of_mixed(context.initial)))
        return dataclasses.replace(
            fed_avg.averaging(context),
            client_update=client_update,
            kept=lambda: Kept(context.initial, ones, np.bool_(False)),
            personal=lambda message, client: client.kept.weights,
        )

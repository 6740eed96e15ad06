"""Per-FedAvg: what is trained together is good after a step by each client.

Fallah, Mokhtari, Ozdaglar 2020, "Personalized federated learning with theoretical
guarantees: A model-agnostic meta-learning approach", algorithm 1. A step follows the
gradient of the loss at w - alpha g(w): `first_order` (FO) leaves the second derivative
out, `hessian_free` (HF) has its product by a difference of two gradients, equation 12.
The paper draws independent batches for each of these gradients; here they are the rows
of one batch by turns, and a batch with too few has some in several. A client's own
model is steps of rate alpha away.
"""

import dataclasses

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.algorithms import fed_avg
from tff_transfer.algorithms.fed_avg_ft import fine_tuned
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option

# How far from the weights the two gradients are, in gradients: less, and their
# difference is lost in float32.
_DELTA = 1e-3


@dataclasses.dataclass(frozen=True)
class PerFedAvg:
    """Per-FedAvg."""

    alpha: float = option(
        0.01, "The rate of a client's own steps; 0 is federated averaging.", at_least=0
    )
    variant: str = option(
        'first_order',
        'What stands for the second derivative: nothing, or a difference of gradients.',
        choices=('first_order', 'hessian_free'),
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        parts = 2 if self.variant == 'first_order' else 3

        def direction(gradient_of, weights, batch):
            found = gradient_of(weights, batch)
            if not self.alpha:
                return found
            outer, inner, *third = (_rows(batch, n, parts) for n in range(parts))
            ahead = _moved(weights, -self.alpha, gradient_of(weights, inner).shared)
            there = gradient_of(ahead, outer)
            shared = there.shared
            for part in third:
                up, down = (
                    gradient_of(_moved(weights, by, there.shared), part).shared
                    for by in (_DELTA, -_DELTA)
                )
                shared = tuple(
                    g - self.alpha * (u - d) / (2 * _DELTA)
                    for g, u, d in zip(shared, up, down, strict=True)
                )
            return found._replace(shared=shared, personal=there.personal)

        adapting = dataclasses.replace(
            context,
            client_optimizer=tff.learning.optimizers.build_sgdm(self.alpha),
            client_schedule=None,
        )
        return fine_tuned(
            fed_avg.averaging(context, lambda weights, client: direction), adapting, ()
        )


def _moved(weights: tuple, by: float, gradient: tuple) -> tuple:
    return tuple(w + by * g for w, g in zip(weights, gradient, strict=True))


def _rows(batch, first: int, step: int):
    """Returns each `step`th row of a batch from `first` on, at least one."""

    def of(leaf):
        return leaf[tf.minimum(first, tf.shape(leaf)[0] - 1) :: step]

    return tf.nest.map_structure(of, batch)

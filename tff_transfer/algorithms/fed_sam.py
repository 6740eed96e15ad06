"""FedSAM: clients seek flat minima.

Qu et al. 2022, "Generalized federated learning via sharpness aware minimization",
algorithm 1 (Caldarola et al. 2022, "Improving generalization in federated learning by
seeking flat minima", found the same): each step follows the gradient at the point
that is `rho` away along the gradient.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.algorithms import fed_avg
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class FedSAM:
    """FedSAM."""

    rho: float = option(0.05, 'The radius of the neighbourhood.', at_least=0)

    def build(self, context: Context) -> Method:
        """Makes the method."""

        def direction(gradient_of, weights, batch):
            found = gradient_of(weights, batch)
            scale = tf.math.divide_no_nan(self.rho, tf.linalg.global_norm(found.shared))
            ahead = tuple(
                w + scale * g for w, g in zip(weights, found.shared, strict=True)
            )
            there = gradient_of(ahead, batch)
            return found._replace(shared=there.shared, personal=there.personal)

        return fed_avg.averaging(context, lambda weights, client: direction)

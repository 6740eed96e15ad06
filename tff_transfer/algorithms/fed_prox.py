"""FedProx: clients are held near the server's weights.

Li et al. 2020, "Federated optimization in heterogeneous networks", algorithm 2: each
client minimises its loss plus mu / 2 times the squared distance to the weights that it
got. TFF's own is `tff.learning.algorithms.build_weighted_fed_prox`.
"""

import dataclasses

from tff_transfer.algorithms import fed_avg, gradients
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class FedProx:
    """FedProx."""

    mu: float = option(0.01, 'The weight of the proximal term.', at_least=0)

    def build(self, context: Context) -> Method:
        """Makes the method."""
        return fed_avg.averaging(
            context, lambda weights, client: proximal(weights, self.mu)
        )


def proximal(start: tuple, mu: float) -> gradients.Direction:
    """Returns the gradient with that of mu / 2 times the squared distance added."""

    # Here and not in `correct`, which is done in each step.
    back = tuple(mu * s for s in start)

    def correct(gradient, weights):
        return tuple(
            g + (mu * w - b) for g, w, b in zip(gradient, weights, back, strict=True)
        )

    return gradients.corrected(correct) if mu else gradients.plain

"""FedPer: some layers stay with each client and are trained with the shared ones.

Arivazhagan et al. 2019, "Federated learning with personalization layers", algorithms 1
and 2, where they are the last ones. Which they are is a choice of the model's parts.
"""

import dataclasses

from tff_transfer.algorithms import fed_avg
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class FedPer:
    """FedPer."""

    parts: tuple[str, ...] = option(
        ('head',), "The model's parts that stay with each client."
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        context.check_divided()
        return fed_avg.averaging(context)

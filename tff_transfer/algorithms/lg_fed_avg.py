"""LG-FedAvg: clients' own representations under a shared head.

Liang et al. 2020, "Think locally, act globally: Federated learning with local and
global representations", algorithm 1: the mirror image of FedPer.
"""

import dataclasses

from tff_transfer.algorithms import fed_avg
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class LGFedAvg:
    """LG-FedAvg."""

    parts: tuple[str, ...] = option(
        ('body',), "The model's parts that stay with each client."
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        context.check_divided()
        return fed_avg.averaging(context)

"""FedSGD: clients send the gradient of their examples, the server takes the step.

McMahan et al. 2017, "Communication-efficient learning of deep networks from
decentralized data", section 2. TFF's own is `tff.learning.algorithms.build_fed_sgd`.
"""

import dataclasses

from tff_transfer.algorithms import fed_avg, local
from tff_transfer.algorithms.method import Context, Method


@dataclasses.dataclass(frozen=True)
class FedSGD:
    """FedSGD."""

    def build(self, context: Context) -> Method:
        """Makes the method."""

        def client_update(weights, client):
            found = local.full_gradient(context, weights, client)
            return local.update(context, client, found)

        return dataclasses.replace(
            fed_avg.averaging(context), client_update=client_update
        )

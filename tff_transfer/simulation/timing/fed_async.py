"""FedAsync: each client's weights are mixed into the server's as they come.

Xie, Koyejo, Gupta 2019, "Asynchronous federated optimization", algorithm 1: x becomes
(1 - a) x + a x_client, where a is alpha times what an update of its staleness counts.
Its regularised clients are those of --algorithm=fedprox.
"""

import dataclasses
from typing import ClassVar

from tff_transfer.options import option
from tff_transfer.simulation.timing.staleness import OfStaleness, times


@dataclasses.dataclass(frozen=True)
class FedAsync(OfStaleness):
    """FedAsync."""

    alpha: float = option(
        0.6, "The share of a client's weights in the server's.", above=0, at_most=1
    )
    of_weights: ClassVar[bool] = True
    remembers: ClassVar[bool] = False
    waits_for: ClassVar[int] = 1

    def deltas(self, arrived):
        """Returns what the server follows the mean of (see `Rule`)."""
        share = self.alpha * self.counts(arrived.staleness)
        return times(share, arrived.now - arrived.sent)

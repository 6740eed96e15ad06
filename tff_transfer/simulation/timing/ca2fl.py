"""CA2FL: of each client the last update stands in for those that are not in the buffer.

Wang et al. 2024, "Tackling the data heterogeneity in asynchronous federated learning
with cached update calibration", algorithm 2: with h_i what client i sent last and h the
mean of that over all clients, the server follows h + mean(update_i - h_i) over its
buffer, and then remembers these updates.
"""

import dataclasses
from typing import ClassVar

from tff_transfer.simulation.timing.fed_buff import buffer


@dataclasses.dataclass(frozen=True)
class CA2FL:
    """CA2FL."""

    buffer: int = buffer()
    of_weights: ClassVar[bool] = False
    remembers: ClassVar[bool] = True

    @property
    def waits_for(self) -> int:
        """How many clients report before the server takes a step."""
        return self.buffer

    def check(self, name: str) -> None:
        """Checks nothing more (see `Rule`)."""

    def deltas(self, arrived):
        """Returns what the server follows the mean of (see `Rule`)."""
        return arrived.mean_last + (arrived.sent - arrived.last)

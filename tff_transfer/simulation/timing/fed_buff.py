"""FedBuff: the server takes a step when its buffer of updates is full.

Nguyen et al. 2022, "Federated learning with buffered asynchronous aggregation",
algorithm 1, with the staleness of its section 5: an update counts 1 / sqrt(1 + s), and
the mean is over how many there are, not over what they count.
"""

import dataclasses
from typing import ClassVar

from tff_transfer.options import option
from tff_transfer.simulation.timing.staleness import OfStaleness, times


def buffer() -> int:
    """Declares the size of the buffer."""
    return option(
        10, 'How many clients report before the server takes a step.', at_least=1
    )


@dataclasses.dataclass(frozen=True)
class FedBuff(OfStaleness):
    """FedBuff."""

    buffer: int = buffer()
    of_weights: ClassVar[bool] = False
    remembers: ClassVar[bool] = False

    @property
    def waits_for(self) -> int:
        """How many clients report before the server takes a step."""
        return self.buffer

    def deltas(self, arrived):
        """Returns what the server follows the mean of (see `Rule`)."""
        return times(self.counts(arrived.staleness), arrived.sent)

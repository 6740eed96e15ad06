"""Each client by a draw of its own, so many on average (Poisson sampling).

The server needs to know nothing of them. A round may have no client at all; it then
changes nothing.
"""

import dataclasses

from tff_transfer.data import cohorts
from tff_transfer.simulation.selection.rule import Rule


@dataclasses.dataclass(frozen=True)
class Poisson(Rule):
    """Each client by a draw of its own."""

    def choose(self, known, size, *, seed, round_number, loss_of):
        """Returns the clients of a round (see `Rule`)."""
        del loss_of
        return cohorts.sample_clients(
            len(known), size, seed=seed, round_number=round_number
        )

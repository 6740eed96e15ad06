"""Clients by chance, each as likely as any other (McMahan et al. 2017, algorithm 1).

The server needs to know nothing of them.
"""

import dataclasses

from tff_transfer.data import cohorts
from tff_transfer.simulation.selection.rule import Rule


@dataclasses.dataclass(frozen=True)
class Uniform(Rule):
    """So many clients, without replacement."""

    def choose(self, known, size, *, seed, round_number, loss_of):
        """Returns the clients of a round (see `Rule`)."""
        del loss_of
        return cohorts.choose_clients(
            len(known), size, seed=seed, round_number=round_number
        )

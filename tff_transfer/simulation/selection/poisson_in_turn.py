"""Groups of clients in turn, and of each group every client by a draw of its own.

Choquette-Choo et al. 2023, "(Amplified) banded matrix factorization", algorithm 2.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from tff_transfer.data import cohorts
from tff_transfer.simulation.selection.rule import Rule


@dataclasses.dataclass(frozen=True)
class PoissonInTurn(Rule):
    """Each client of a round's group by a draw of its own (`cohorts.sample_in_turn`).

    Attributes:
      groups: How many groups there are.
    """

    needs: ClassVar[tuple[str, ...]] = ('population',)

    groups: int

    def choose(self, known, size, *, seed, round_number, loss_of):
        """Returns the clients of a round (see `Rule`), of those that are present."""
        del loss_of
        chosen = cohorts.sample_in_turn(
            known.population,
            size,
            groups=self.groups,
            seed=seed,
            round_number=round_number,
        )
        return np.flatnonzero(np.isin(known.clients, chosen))

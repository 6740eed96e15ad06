"""Clients in turn, so that the rounds of each are far apart.

Which group a client is in hangs on its number and the seed alone, so the separation
holds whoever is present; of the group whose turn it is as many as a round has are drawn
by chance, or all that are present if these are fewer. That is participation with a
minimum separation b (Choquette-Choo et al. 2023, "(Amplified) banded matrix
factorization", section 2). The server needs to know how many may take part at all.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from tff_transfer.data import cohorts
from tff_transfer.errors import UserError
from tff_transfer.options import option
from tff_transfer.simulation.selection.rule import Rule


@dataclasses.dataclass(frozen=True)
class RoundRobin(Rule):
    """One group of clients after another (`cohorts.choose_in_turn`)."""

    needs: ClassVar[tuple[str, ...]] = ('population', 'cohort')

    separation: int | None = option(
        None,
        'The fewest rounds from one round of a client to its next; as many as there are'
        ' disjoint cohorts, if not given.',
        at_least=1,
    )

    def check(self, size, clients):
        """Checks the separation (see `Rule`)."""
        if (self.separation or 1) > clients // size:
            raise UserError(
                f'--roundrobin.separation={self.separation}, but {clients} clients are'
                f' {clients // size} disjoint cohorts of {size}; give at most that'
            )

    def choose(self, known, size, *, seed, round_number, loss_of):
        """Returns the clients of a round (see `Rule`), fewer if few are present."""
        del loss_of
        chosen = cohorts.choose_in_turn(
            known.population,
            size,
            seed=seed,
            round_number=round_number,
            groups=self.separation or known.population // known.cohort,
            present=known.clients,
        )
        return np.searchsorted(known.clients, chosen)

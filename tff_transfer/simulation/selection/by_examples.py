"""Clients in proportion to how many examples they have, without replacement.

Li et al. 2020, "On the convergence of FedAvg on non-IID data", section 3.3 (scheme I),
draw with replacement in proportion to examples and take the plain mean of updates: its
expectation is the mean over all clients weighted by examples. So it is here, but for
clients with so large a share that they cannot be drawn more than once, with
--weighting=uniform; with --weighting=examples their number counts twice, since a client
with twice as many is drawn about twice as often and then counts twice. The server needs
to know each client's number of examples.
"""

import dataclasses
from typing import ClassVar

from tff_transfer import randomness
from tff_transfer.simulation.selection.draws import drawn, log
from tff_transfer.simulation.selection.rule import Rule


@dataclasses.dataclass(frozen=True)
class ByExamples(Rule):
    """In proportion to examples, without replacement."""

    needs: ClassVar[tuple[str, ...]] = ('examples',)

    def choose(self, known, size, *, seed, round_number, loss_of):
        """Returns the clients of a round (see `Rule`)."""
        del loss_of
        draw = randomness.generator(seed, 'cohort by examples', round_number)
        return drawn(log(known.examples), size, draw)

"""Clients in proportion to the loss that each told last, without replacement.

The loss is the mean over a client's training examples of the model that it got when it
last took part; the server needs to know it. Clients that never took part come first, by
chance. As any choice by loss it is biased: clients of higher loss count more.
"""

import dataclasses
from typing import ClassVar

from tff_transfer import randomness
from tff_transfer.simulation.selection.draws import drawn, log
from tff_transfer.simulation.selection.rule import Rule


@dataclasses.dataclass(frozen=True)
class ByLoss(Rule):
    """In proportion to losses, without replacement."""

    needs: ClassVar[tuple[str, ...]] = ('losses',)

    def choose(self, known, size, *, seed, round_number, loss_of):
        """Returns the clients of a round (see `Rule`)."""
        del loss_of
        draw = randomness.generator(seed, 'cohort by loss', round_number)
        return drawn(log(known.losses), size, draw)

"""How many bytes travel in a round, as columns of `metrics.csv`."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tff_transfer.algorithms import registry
from tff_transfer.training import columns
from tff_transfer.training.assembled import Assembled
from tff_transfer.training.asynchronous import Stepped
from tff_transfer.training.participants import Participants, Turnout


@dataclasses.dataclass(frozen=True)
class RoundBytes:
    """The bytes of all clients of a round.

    Attributes:
      made: What rounds are made of.
    """

    made: Assembled

    @property
    def coded(self) -> tuple[str, ...]:
        """The directions of which it is told what entropy coding would make of them.

        None where something is promised of clients' data: it hangs on these.
        """
        made = self.made
        return tuple(made.composed.bytes_beside) if made.mechanism is None else ()

    def of_round(
        self, participants: Participants, turnout: Turnout, metrics: Mapping
    ) -> dict[str, int]:
        """Returns the columns of a round.

        Args:
          participants: Who may take part.
          turnout: Who did.
          metrics: What the process measured.
        """
        receivers = len(turnout.clients)
        senders = np.count_nonzero(turnout.epochs) + turnout.late
        if participants.method in registry.IN_ONE_PLACE:
            receivers = senders = 0
        if self.made.mechanism is not None:
            receivers = senders = self.made.mechanism.cohort
        up, down = self.made.bytes(receivers)
        receivers += turnout.asked
        up, down = up * senders, down * receivers
        of_example = self.made.method.example_bytes
        if of_example is not None:
            up, down = (participants.examples(turnout) * of for of in of_example)
        return self._columns(up, down, metrics, senders, receivers)

    def of_step(self, step: Stepped) -> dict[str, int]:
        """Returns the columns of a step of a server that steps as clients report."""
        senders, receivers = step.reported, step.receivers
        up, down = self.made.bytes(senders)
        return self._columns(
            up * senders, down * receivers, step.metrics, senders, receivers
        )

    def _columns(
        self, up: int, down: int, metrics: Mapping, senders: int, receivers: int
    ) -> dict[str, int]:
        row = {'bytes/up': up, 'bytes/down': down}
        beside = self.made.composed.bytes_beside
        for name in self.coded:
            of = {'up': senders, 'down': receivers}[name]
            found = int(metrics['coded'][name]) * (1 if name == 'up' else receivers)
            row[columns.CODED.format(name)] = found + beside[name] * of
        return row

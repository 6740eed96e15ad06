"""The devices of a run's clients: what they can do, when they are there, who fails."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from tff_transfer import randomness
from tff_transfer.simulation.fleet.availability import Availability
from tff_transfer.simulation.fleet.devices import Devices


@dataclasses.dataclass(frozen=True)
class Fleet:
    """The devices of the clients of a run, all of those that the data have.

    Attributes:
      devices: What they can do.
      availability: When they are there.
      dropout: The probability that a client that was asked does not report.
      seed: The run's seed, for who does not.
    """

    devices: Devices
    availability: Availability
    dropout: float
    seed: int

    def available(self, at_second: float) -> np.ndarray:
        """Returns which clients are there, bool [clients]."""
        return self.availability.available(at_second)

    def fails(self, client: int, round_number: int) -> bool:
        """Returns whether a client does not report in a round: drops out."""
        if not self.dropout:
            return False
        draw = randomness.generator(self.seed, 'dropout', round_number, client)
        return bool(draw.random() < self.dropout)


class Kind(Protocol):
    """A kind of fleet, a dataclass of options."""

    def fleet(self, names: Sequence[str], seed: int) -> Fleet | None:
        """Returns the devices of clients.

        Args:
          names: The clients' names, in the order of their numbers.
          seed: The run's seed.

        Returns:
          The devices, or None if no time is simulated.

        Raises:
          UserError: A file that tells of them is not one.
        """

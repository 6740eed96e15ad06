"""Devices that are there in their night alone: a trace of our own making.

It is for demonstrations and measured nowhere: what it has of real fleets is that phones
train while they are charged and not in use, mostly at night where they are (Bonawitz et
al. 2019, "Towards federated learning at scale", section 9, figure 6), so that who takes
part changes with the hour.
"""

import dataclasses

import numpy as np

from tff_transfer import randomness
from tff_transfer.options import option
from tff_transfer.simulation.fleet.availability import Availability
from tff_transfer.simulation.fleet.drawn import Drawn
from tff_transfer.simulation.fleet.fleet import Fleet

_HOUR = 3600.0
_DAY = 24 * _HOUR


@dataclasses.dataclass(frozen=True)
class DayNight(Drawn):
    """Drawn devices, each there in its night, while it charges; not measured.

    The run starts at midnight of the first of the time zones, which are evenly apart.
    """

    zones: int = option(
        3, 'How many time zones clients are in, by a draw.', at_least=1, at_most=24
    )
    night: float = option(22.0, 'The hour at which nights start.', at_least=0, below=24)
    hours: float = option(8.0, 'How long they are, in hours.', above=0, at_most=24)
    hours_spread: float = option(
        1.0,
        'The standard deviation, in hours, of the start of the night of a client.',
        at_least=0,
    )

    def fleet(self, names, seed) -> Fleet:
        """Returns the devices of clients (see `Kind`)."""
        count = len(names)
        zone = randomness.generator(seed, 'time zones').integers(self.zones, size=count)
        late = randomness.generator(seed, 'nights').standard_normal(count)
        starts = self.night + self.hours_spread * late - 24 * zone / self.zones
        availability = Availability(
            count,
            np.arange(count),
            np.mod(starts * _HOUR, _DAY),
            np.full(count, self.hours * _HOUR),
            np.full(count, _DAY),
        )
        return Fleet(self.devices(count, seed), availability, self.dropout, seed)

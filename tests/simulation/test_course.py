"""Rounds of five clients: who is used, who is late and when it ends, by hand."""

import numpy as np
import pytest

from tff_transfer.simulation.fleet.availability import Availability, always
from tff_transfer.simulation.fleet.course import course
from tff_transfer.simulation.fleet.devices import Devices
from tff_transfer.simulation.fleet.fleet import Fleet

DURATIONS = np.array([30.0, 10.0, 50.0, 20.0, 40.0])
CLIENTS = np.array([4, 2, 0, 3, 1])


class Failing(Fleet):
    """Devices of which some fail in each round."""

    def fails(self, client, round_number):
        """Returns whether a client is one of them."""
        return client in self.seed  # In the place of the seed: who fails.


def of(wanted, deadline=None, failing=(), there=None, starts=1000.0):
    """Returns the clients used and late, by their durations, and how long it lasts."""
    devices = Devices(*[np.ones(5)] * 3)
    fleet = Failing(devices, there or always(5), 0.5, failing)
    used, late, lasts = course(
        fleet,
        CLIENTS,
        DURATIONS,
        wanted,
        deadline=deadline,
        starts=starts,
        round_number=3,
    )
    return sorted(DURATIONS[used]), sorted(DURATIONS[late]), lasts


@pytest.mark.parametrize(
    'how, expected',
    [
        # All are waited for.
        ({'wanted': 5}, ([10, 20, 30, 40, 50], [], 50)),
        # The first three of five; the others send in vain.
        ({'wanted': 3}, ([10, 20, 30], [40, 50], 30)),
        # The deadline comes first.
        ({'wanted': 4, 'deadline': 25}, ([10, 20], [30, 40, 50], 25)),
        # At the deadline is in time, and the round is over with the last one wanted.
        ({'wanted': 2, 'deadline': 20}, ([10, 20], [30, 40, 50], 20)),
        ({'wanted': 2, 'deadline': 25}, ([10, 20], [30, 40, 50], 20)),
        # Clients 2 and 3, of 10 and 20 seconds, drop out.
        ({'wanted': 2, 'failing': (2, 3)}, ([30, 40], [50], 40)),
        ({'wanted': 5, 'failing': (2, 3)}, ([30, 40, 50], [], 50)),
        # The slowest one drops out: the round ends with the last that reports ...
        ({'wanted': 5, 'failing': (0,)}, ([10, 20, 30, 40], [], 40)),
        # ... or with the deadline, since the server cannot know.
        ({'wanted': 5, 'failing': (0,), 'deadline': 60}, ([10, 20, 30, 40], [], 60)),
        # Nobody survives.
        ({'wanted': 5, 'failing': range(5)}, ([], [], 50)),
        ({'wanted': 5, 'failing': range(5), 'deadline': 60}, ([], [], 60)),
        ({'wanted': 5, 'deadline': 5}, ([], [10, 20, 30, 40, 50], 5)),
    ],
)
def test_by_hand(how, expected):
    assert of(**how) == expected


def test_who_goes_before_it_reported_drops_out():
    # Each client is there for 35 seconds from second 990 on: 25 are left.
    there = Availability(
        5, np.arange(5), np.full(5, 90.0), np.full(5, 35.0), np.full(5, 100.0)
    )
    assert of(5, there=there) == ([10, 20], [], 20)
    assert of(5, there=there, starts=990.0) == ([10, 20, 30], [], 30)


def test_a_round_that_asks_nobody_takes_no_time():
    fleet = Fleet(Devices(*[np.ones(5)] * 3), always(5), 0.0, 0)
    nobody = np.zeros(0, np.int64)
    found = course(
        fleet, nobody, np.zeros(0), 3, deadline=None, starts=0.0, round_number=1
    )
    assert not len(found.used) and found.lasts == 0

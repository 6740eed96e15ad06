"""Clients that train at the same time, by hand."""

import numpy as np
import pytest

from tff_transfer.errors import UserError
from tff_transfer.simulation.timing import events
from tff_transfer.simulation.timing.events import Flights

TAKES = np.array([3.0, 5.0, 2.0, 4.0])


def asker(version, order, asked, fails=()):
    """Asks clients in a given order, who take what `TAKES` says."""

    def ask(room, clock, busy):
        clients = []
        while len(clients) < room and order and order[0] not in busy:
            clients.append(order.pop(0))
        asked.append((clock, clients))
        clients = np.array(clients, np.int64)
        return Flights(
            clients,
            np.full(len(clients), version),
            clock + TAKES[clients],
            np.isin(clients, fails),
        )

    return ask


def never(clock, busy):
    return np.inf


def at(flights, other, places):
    return flights.joined(other).client[places].tolist()


def test_four_clients_of_whom_two_train_at_once():
    # Client 0 until 3, client 1 until 5; at 3 client 2 until 5, who was asked later
    # than client 1; both report before anybody is asked at 5: 3 until 9, 0 until 8.
    asked, order = [], [0, 1, 2, 3, 0, 2]
    flights, clock, found = events.none(2), 0.0, []
    for step in range(3):
        ask = asker(step, order, asked)
        passed = events.until(flights, clock, 2, ask, never)
        everyone = flights.joined(passed.started)
        for place in passed.reported:
            of = everyone.client[place], everyone.finish[place]
            found.append((step, *of, step - everyone.version[place]))
        left = Flights(*(field[passed.left] for field in everyone))
        flights = left.joined(events.none(2 - len(passed.left)))
        clock = passed.clock
    # At 9 there is room too, but nobody is left to ask.
    assert asked == [(0, [0, 1]), (3, [2]), (5, [3, 0]), (8, [2]), (9, [])]
    assert found == [(0, 0, 3, 0), (0, 1, 5, 0), (1, 2, 5, 1), (1, 0, 8, 0)] + [
        (2, 3, 9, 1),
        (2, 2, 10, 0),
    ]
    assert clock == 10


def test_who_fails_makes_room_when_it_would_have_reported():
    asked = []
    ask = asker(7, [2, 1, 3], asked, fails=[2])
    passed = events.until(events.none(2), 10.0, 2, ask, never)
    assert asked == [(10, [2, 1]), (12, [3]), (15, [])]
    # Clients 1 and 3 report at 15 and 16.
    assert at(events.none(2), passed.started, passed.reported) == [1, 3]
    assert passed.clock == 16
    assert not len(passed.left)


def test_nobody_is_asked_who_has_reported_since_the_last_step():
    seen = []

    def ask(room, clock, busy):
        seen.append(sorted(busy.tolist()))
        free = np.array([c for c in range(4) if c not in busy][:room], np.int64)
        return Flights(free, np.zeros(len(free), int), clock + TAKES[free], free == -1)

    passed = events.until(events.none(1), 0.0, 4, ask, never)
    assert seen == [[], [0], [0, 1], [0, 1, 2]]
    assert passed.clock == TAKES.sum()


def test_an_empty_time_is_passed_until_somebody_can_be_asked():
    asked = []

    def ask(room, clock, busy):
        order = [2] if clock >= 40 else []
        return asker(0, order, asked)(room, clock, busy)

    later = iter([30.0, 40.0])
    passed = events.until(events.none(1), 1.0, 1, ask, lambda clock, busy: next(later))
    assert [clock for clock, _ in asked] == [1, 30, 40]
    assert passed.clock == 42


def test_what_never_comes_is_not_waited_for():
    with pytest.raises(UserError, match='waits for 5 clients, but there is nobody'):
        events.until(events.none(2), 0.0, 5, asker(0, [0, 1, 2, 3], []), never)

    def failing(room, clock, busy):
        clients = np.arange(4)[~np.isin(np.arange(4), busy)][:room]
        zeros = np.zeros(len(clients), np.int64)
        return Flights(clients, zeros, clock + TAKES[clients], zeros == 0)

    with pytest.raises(UserError, match='fewer than 1 reported'):
        events.until(events.none(2), 0.0, 1, failing, never)

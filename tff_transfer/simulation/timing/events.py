"""Clients that train at the same time, each from when it was asked until it reports."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tff_transfer.errors import UserError

# The client of a place in which nobody trains.
NOBODY = -1
# After so many clients for each one that is wanted, it is no use to ask more.
_IN_VAIN = 1000


class Flights(NamedTuple):
    """Clients that train, in the order in which they were asked.

    Attributes:
      client: Their numbers, int64 [places]; `NOBODY` where there is none.
      version: How many steps the model that each got had had, int64 [places].
      finish: When it reports, in simulated seconds, float64 [places].
      fails: Whether it then turns out not to, bool [places].
    """

    client: np.ndarray
    version: np.ndarray
    finish: np.ndarray
    fails: np.ndarray

    def joined(self, others: 'Flights') -> 'Flights':
        """Returns these and, behind them, others."""
        return Flights(*map(np.concatenate, zip(self, others, strict=True)))


class Passed(NamedTuple):
    """What happened until the server had what it waited for.

    Attributes:
      clock: When it had that.
      started: Who was asked in that time; a place among all is one of those who were
        under way before, or, behind these, of those who started.
      reported: The places of those who reported, in the order in which they did.
      left: The places of those still under way, as they were asked.
    """

    clock: float
    started: Flights
    reported: np.ndarray
    left: np.ndarray


def none(places: int = 0) -> Flights:
    """Returns places in which nobody trains."""
    return Flights(
        np.full(places, NOBODY),
        np.zeros(places, np.int64),
        np.zeros(places),
        np.zeros(places, bool),
    )


def until(
    before: Flights,
    clock: float,
    count: int,
    ask: Callable[[int, float, np.ndarray], Flights],
    later: Callable[[float, np.ndarray], float],
) -> Passed:
    """Passes the time until so many clients have reported.

    Who reports at the same instant does so in the order of having been asked. Whoever
    reports, or fails to, makes room for another, who is asked when all of that instant
    have reported: so those for whom the last one makes room are left to be asked after
    the server's step. Nobody is asked again who has reported since the last one.

    Args:
      before: Who is under way; as many may be at a time as this has places.
      clock: The time.
      count: How many the server waits for.
      ask: Asks up to so many clients, at a time, but none of those that are given:
        (how many, when, their numbers) to who was asked.
      later: Gives of a time, and of the same clients, when another can be asked, or
        infinity: what is waited for where nobody is under way.

    Raises:
      UserError: Nobody can be asked any more, or nearly all who are fail.
    """
    everyone, places = before, len(before.client)
    waiting = [*np.flatnonzero(before.client != NOBODY)]
    reported, limit = [], _IN_VAIN * (places + count)

    def soonest() -> int | None:
        return min(waiting, key=lambda at: (everyone.finish[at], at), default=None)

    while len(reported) < count:
        first = soonest()
        room = places - len(waiting)
        busy = everyone.client[[*waiting, *reported]]
        if room and (first is None or everyone.finish[first] > clock):
            asked = ask(room, clock, busy)
            waiting += range(len(everyone.client), len(everyone.client) + len(asked[0]))
            everyone = everyone.joined(asked)
            first = soonest()
        if first is None:
            soon = later(clock, busy)
            if not clock < soon < np.inf:
                raise UserError(
                    f'the server waits for {count} clients, but there is nobody more to'
                    ' ask; give more clients, or have it wait for fewer'
                )
            clock = soon
            continue
        if len(everyone.client) > limit:
            raise UserError(
                f'of {limit} clients that were asked, fewer than {count} reported, for'
                ' whom the server waits; have fewer of them fail'
            )
        clock = float(everyone.finish[first])
        waiting.remove(first)
        if not everyone.fails[first]:
            reported.append(first)
    started = Flights(*(field[places:] for field in everyone))
    places_of = [np.array(some, np.int64) for some in (reported, sorted(waiting))]
    return Passed(clock, started, *places_of)

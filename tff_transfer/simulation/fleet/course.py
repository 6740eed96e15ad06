"""What becomes of a synchronous round: who reports in time, and when it ends.

The server asks more clients than it needs, takes the first that report, and closes the
round at a deadline (Bonawitz et al. 2019, "Towards federated learning at scale",
section 2.2). All follows from sizes and draws, before anything is trained.
"""

from typing import NamedTuple

import numpy as np

from tff_transfer.simulation.fleet.fleet import Fleet


class Course(NamedTuple):
    """What becomes of the clients that a round asked.

    Attributes:
      used: Whose report the server uses, bool [asked].
      late: Who sends one that it does not use, bool [asked]; the others drop out.
      lasts: How long the round takes, in seconds.
    """

    used: np.ndarray
    late: np.ndarray
    lasts: float


def course(
    fleet: Fleet,
    clients: np.ndarray,
    durations: np.ndarray,
    wanted: int,
    *,
    deadline: float | None,
    starts: float,
    round_number: int,
) -> Course:
    """Returns what becomes of a round.

    A client does not report if it drops out, by the fleet's draw, or if it goes, by its
    availability, before it would have reported. Who is late does not know that, and
    sends. The round ends with the last report that is used, if there are as many as
    wanted; if not, at the deadline; without one when the last client that reports has.
    Of a round in which nobody reports the server learns nothing: it gives up when the
    last client would have.

    Args:
      fleet: The devices.
      clients: Who is asked, by their numbers in the fleet, int64 [asked].
      durations: How long each takes, float64 [asked] (`devices.seconds`).
      wanted: How many reports are used, at most.
      deadline: After how many seconds none is.
      starts: The second at which the round starts.
      round_number: The round, for drop-outs.
    """
    staying = fleet.availability.remaining(starts)[clients]
    fails = np.array([fleet.fails(client, round_number) for client in clients], bool)
    reports = ~fails & (durations <= staying)
    limit = np.inf if deadline is None else deadline
    in_time = np.flatnonzero(reports & (durations <= limit))
    first = in_time[np.argsort(durations[in_time], kind='stable')][:wanted]
    used = np.zeros(len(clients), bool)
    used[first] = True
    if len(first) == wanted:
        lasts = durations[first].max(initial=0.0)
    elif deadline is not None:
        lasts = deadline
    else:
        lasts = durations[reports if reports.any() else slice(None)].max(initial=0.0)
    return Course(used, reports & ~used, float(lasts))

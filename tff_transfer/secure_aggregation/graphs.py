"""Who shares masks with whom: all with all, or each with k neighbours.

Bonawitz et al. 2017, "Practical secure aggregation for privacy-preserving machine
learning", has the complete graph. SecAgg+ (Bell et al. 2020, "Secure single-server
aggregation with (poly)logarithmic overhead") has a random k-regular one: a Harary graph
over a random order of the clients.
"""

import dataclasses
import functools

import numpy as np
from scipy import stats

from tff_transfer.errors import UserError

# What the graph of clients must bear: shares of clients who collude with the server and
# who drop out, and the chances that it does not (Bell et al. 2020).
_CORRUPT, _DROPPED = 0.05, 0.3
_SECRECY, _RECOVERY = 2.0**-40, 2.0**-30


@dataclasses.dataclass(frozen=True)
class Graph:
    """Which clients share masks and secrets; an edge goes both ways.

    Attributes:
      neighbours: Of each client the others in ascending order, without itself; a
        client's number is its place here.
    """

    neighbours: tuple[tuple[int, ...], ...]

    @property
    def clients(self) -> int:
        """How many clients there are."""
        return len(self.neighbours)

    @property
    def degree(self) -> int:
        """How many neighbours each client has."""
        return len(self.neighbours[0])


def complete(clients: int) -> Graph:
    """Returns the graph of Bonawitz et al. 2017.

    Args:
      clients: How many, at least 2.

    Raises:
      UserError: There are fewer than 2 clients.
    """
    return k_regular(np.arange(clients), clients - 1)


def k_regular(order: np.ndarray, neighbours: int) -> Graph:
    """Returns the Harary graph over an order of the clients (Bell et al. 2020).

    Clients stand in a circle in this order; each is joined with the k / 2 next ones on
    either side, and if k is odd with the one opposite. For secrecy the order must be
    random: clients that collude must not choose whose neighbours they are.

    Args:
      order: A permutation of 0 to n - 1, int [n].
      neighbours: k, from 1 to n - 1; with odd k, n must be even.

    Raises:
      UserError: There is no such graph.
    """
    n, k = len(order), neighbours
    if not 1 <= k < n:
        raise UserError(f'{n} clients cannot have {k} neighbours each')
    if k % 2 and n % 2:
        raise UserError(
            f'{n} clients cannot have {k} neighbours each: one number must be even'
        )
    steps = list(range(1, k // 2 + 1))
    steps += [-step for step in steps] + [n // 2] * (k % 2)
    found: list[tuple[int, ...]] = [()] * n
    for place, client in enumerate(order):
        around = {int(order[(place + step) % n]) for step in steps}
        found[int(client)] = tuple(sorted(around))
    return Graph(tuple(found))


@dataclasses.dataclass(frozen=True)
class Risk:
    """What may go wrong with a random k-regular graph: bounds of probabilities.

    Attributes:
      secrecy: That some client's vector, or the sum of a part of the clients, could be
        told by the server together with the corrupt clients.
      recovery: That the sum cannot be had since too many neighbours dropped out.
    """

    secrecy: float
    recovery: float


def risk(
    clients: int, neighbours: int, threshold: int, corrupt: int, dropped: int
) -> Risk:
    """Returns what the random order may spoil, by union bounds over the clients.

    The events are those of Bell et al. 2020, section 3: a client with as many corrupt
    neighbours as the threshold, a graph that falls apart without those who are corrupt
    or drop out (only if k / 2 who are next to each other are), and a client with fewer
    neighbours left than the threshold. Whoever is corrupt or drops out is so before
    the order is drawn. The complete graph has the same bounds without chance.

    Args:
      clients: n.
      neighbours: k, even.
      threshold: t, how many shares give a secret.
      corrupt: How many clients collude with the server, which is honest but curious.
      dropped: How many drop out.
    """
    n, k = clients, neighbours
    corrupt_enough = stats.hypergeom.sf(threshold - 1, n - 1, corrupt, k)
    too_few_left = stats.hypergeom.sf(k - threshold, n - 1, dropped, k)
    gone = min(corrupt + dropped, n) - np.arange(k // 2)
    falls_apart = np.prod(np.maximum(gone, 0) / (n - np.arange(k // 2)))
    return Risk(
        min(1.0, float(n * (corrupt_enough + falls_apart))),
        min(1.0, float(n * too_few_left)),
    )


def smallest(
    clients: int, corrupt: int, dropped: int, secrecy: float, recovery: float
) -> tuple[int, int]:
    """Returns the fewest neighbours, and a threshold, with which little goes wrong.

    Args:
      clients: n.
      corrupt: How many clients collude with the server.
      dropped: How many drop out.
      secrecy: The most that `Risk.secrecy` may be.
      recovery: The most that `Risk.recovery` may be.

    Returns:
      k, which is even, and the largest t.

    Raises:
      UserError: No k is enough; then only the complete graph is left.
    """
    for k in range(2, clients, 2):
        for t in range(k, 1, -1):
            found = risk(clients, k, t, corrupt, dropped)
            if found.secrecy > secrecy:
                break
            if found.recovery <= recovery:
                return k, t
    raise UserError(
        f'no k-regular graph of {clients} clients bears {corrupt} corrupt ones and'
        f' {dropped} that drop out: take the complete one, or fewer of them'
    )


@functools.lru_cache(maxsize=64)  # Each round asks.
def neighbours(cohort: int) -> int:
    """Returns with how many others each client shares masks: SecAgg+, or all."""
    bears = round(_CORRUPT * cohort), round(_DROPPED * cohort)
    try:
        return smallest(cohort, *bears, _SECRECY, _RECOVERY)[0]
    except UserError:  # No fewer are enough.
        return cohort - 1

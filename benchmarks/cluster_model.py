"""What more nodes would do: rounds on a cluster that is thought up.

Blocks are joined and given out by the code that a real cluster has
(`runtime/cluster/scheduling.py`); how long things take comes from measurements
(`benchmarks.cluster`). The driver has one connection, by which all comes and goes:

- what the server sends goes to each node once;
- a call costs the driver some time, one call after another, and its clients' examples
  go by the connection, if they do not lie in files that nodes read;
- each transfer comes later by the network's delay;
- a node of one processor computes one call at a time;
- a node merges those of its blocks' sums that can be (`runtime/merging.py`); each of
  the rest goes back by the connection, and is merged, one after another.
"""

import dataclasses
import heapq

from tff_transfer.runtime import merging
from tff_transfer.runtime.cluster import scheduling


@dataclasses.dataclass(frozen=True)
class Round:
    """What a round takes.

    Attributes:
      compute: Seconds of one processor for all clients.
      sent: Bytes of all clients' examples that travel.
      broadcast: Bytes that each node gets once.
      state: Bytes of a sum.
      server: Seconds of the driver whatever the clients do.
      call: Seconds of the driver for a call.
      merge: Seconds to merge two sums.
    """

    compute: float
    sent: float
    broadcast: float
    state: float
    server: float
    call: float
    merge: float


@dataclasses.dataclass(frozen=True)
class Network:
    """What lies between driver and nodes.

    Attributes:
      delay: Seconds one way.
      bandwidth: Bytes a second of the driver's connection, each way.
    """

    delay: float
    bandwidth: float


def seconds(of: Round, network: Network, nodes: int, blocks: int) -> float:
    """Returns how long a round takes.

    Args:
      of: What it takes.
      network: What lies between.
      nodes: How many nodes of one processor there are.
      blocks: Into how many blocks of one size the clients are divided.
    """
    sizes = [1.0 / blocks] * blocks
    shares = scheduling.shares(range(blocks + 1), sizes, nodes)
    left = [
        len(merging.within(s.first, s.first + len(s.cuts) - 1, blocks)[1])
        for s in shares
    ]
    waiting = {number: share.size for number, share in enumerate(shares)}
    free, reached = dict.fromkeys(range(nodes), 1), set()
    out = back = of.server
    ends: list[tuple[float, int, int]] = []
    while waiting or ends:
        for number, node in scheduling.assign(waiting, free):
            share, sums = shares[number], left[number]
            del waiting[number]
            free[node] -= 1
            moved = share.size * of.sent + (node not in reached) * of.broadcast
            reached.add(node)
            out += of.call + moved / network.bandwidth
            merges = len(share.cuts) - 1 - sums
            computed = share.size * of.compute + merges * of.merge
            heapq.heappush(ends, (out + network.delay + computed, number, node))
        ended, number, node = heapq.heappop(ends)
        free[node] += 1
        arrives = max(ended + network.delay, back)
        back = arrives + left[number] * (of.state / network.bandwidth + of.merge)
        # What waits starts when the driver has seen that this one is done.
        out = max(out, ended + network.delay)
    return back

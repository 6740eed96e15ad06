"""Which clients take which steps together: exact, without padding or masks.

A client's elements are runs of steps whose batches have the same number of rows: most
often one run of full batches, and one smaller batch. Clients of a group whose first
runs are of batches of the same size go together, then those whose second ones are, and
so on. Those with fewer steps leave first: a *segment* is some steps that the same
clients take together.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tff_transfer.runtime.layouts import starts_of


@dataclasses.dataclass(frozen=True)
class Groups:
    """Clients in groups, whose work is done together.

    Attributes:
      of_blocks: Where each block's groups start, int64 [blocks + 1].
      starts: Where each group's clients start in `order`, int64 [groups + 1].
      order: The clients, int64 [clients].
    """

    of_blocks: np.ndarray
    starts: np.ndarray
    order: np.ndarray


def groups(steps: np.ndarray, cuts: Sequence[int], most: int) -> Groups:
    """Divides the clients of each block into groups of about as many steps each.

    Args:
      steps: How many steps each client has, [clients].
      cuts: The first client of each block, and the one after the last.
      most: The most clients of a group.

    Returns:
      The groups, of a block's clients those with the most steps first.
    """
    sizes = np.diff(cuts)
    block = np.repeat(np.arange(len(sizes)), sizes)
    # Clients of as many steps stay in order.
    order = np.lexsort((np.arange(len(steps)), -steps, block))
    counts = -(-sizes // most)
    of_blocks = starts_of(counts)
    of_block = np.repeat(np.arange(len(sizes)), counts)
    number = np.arange(of_blocks[-1]) - of_blocks[:-1][of_block]
    bounds = np.asarray(cuts)[:-1][of_block] + number * sizes[of_block] // np.maximum(
        counts[of_block], 1
    )
    return Groups(of_blocks, np.append(bounds, cuts[-1]).astype(np.int64), order)


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The segments of all groups' passes over a sequence.

    Attributes:
      of_groups: Where each group's segments start, int64 [groups + 1].
      segments: The rows of a batch, how many steps are taken, and where the segment's
        members end in `members`, int64 [segments, 3].
      members: Of each client of each segment its place in the group, and the first
        element and row that it reads, int64 [members, 3].
    """

    of_groups: np.ndarray
    segments: np.ndarray
    members: np.ndarray


def schedule(starts: np.ndarray, rows: np.ndarray, divided: Groups) -> Schedule:
    """Returns the segments in which groups pass over their clients' elements.

    Args:
      starts: Where each client's elements start, int64 [clients + 1].
      rows: Where each element's rows start, int64 [elements + 1].
      divided: The groups.
    """
    clients, count = len(starts) - 1, int(starts[-1])
    group = np.empty(clients, np.int64)
    place = np.empty(clients, np.int64)
    sizes = np.diff(divided.starts)
    group[divided.order] = np.repeat(np.arange(len(sizes)), sizes)
    place[divided.order] = np.arange(clients) - np.repeat(divided.starts[:-1], sizes)

    client = np.repeat(np.arange(clients), np.diff(starts))
    size = np.diff(rows)
    begins = np.ones(count, bool)
    begins[1:] = (np.diff(client) != 0) | (np.diff(size) != 0)
    run = np.flatnonzero(begins)
    steps = np.diff(np.append(run, count))
    client, size = client[run], size[run]
    number = np.arange(len(run)) - np.searchsorted(client, client)

    order = np.lexsort((client, steps, size, number, group[client]))
    run, steps, client, size = (a[order] for a in (run, steps, client, size))
    keys = np.stack([group[client], number[order], size])
    new_key = np.ones(len(run), bool)
    new_key[1:] = (np.diff(keys) != 0).any(axis=0)
    new = new_key.copy()
    new[1:] |= np.diff(steps) != 0
    first = np.flatnonzero(new)
    # A segment's members are the runs from its first to the last of those that begin
    # together; it takes the steps that the segment before did not.
    ends = np.append(np.flatnonzero(new_key)[1:], len(run))
    last = ends[(np.cumsum(new_key) - 1)[first]]
    before = np.where(new_key[first], 0, np.append(0, steps[first][:-1]))
    total = starts_of(last - first)
    each = np.repeat(np.arange(len(first)), last - first)
    member = np.arange(total[-1]) - total[each] + first[each]
    done = before[each]
    return Schedule(
        np.searchsorted(keys[0][first], np.arange(len(sizes) + 1)),
        np.stack([size[first], steps[first] - before, total[1:]], axis=1),
        np.stack(
            [
                place[client[member]],
                run[member] + done,
                rows[run[member]] + done * size[member],
            ],
            axis=1,
        ),
    )

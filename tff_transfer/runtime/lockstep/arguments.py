"""The clients' values as the arrays that a function of groups in lockstep takes."""

from collections.abc import Sequence

import numpy as np

from tff_transfer.runtime.layouts import ClientSequences, ClientTensors
from tff_transfer.runtime.lockstep import schedules

Leaf = ClientSequences | ClientTensors


def arrays(
    leaves: Sequence[Leaf], cuts: Sequence[int], most: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the arrays of some clients' groups, and of what is theirs.

    Args:
      leaves: All clients' values.
      cuts: The first client of each block, and the one after the last.
      most: The most clients of a group.

    Returns:
      Those that stand in `LockstepClients.specs` before the server's, and after them.
    """
    first, last = cuts[0], cuts[-1]
    steps = np.zeros(last - first, np.int64)
    for leaf in leaves:
        if isinstance(leaf, ClientSequences):
            steps += np.diff(leaf.starts[first : last + 1])
    divided = schedules.groups(steps, np.asarray(cuts) - first, most)
    flat = []
    for leaf in leaves:
        if isinstance(leaf, ClientTensors):
            flat.extend(leaf.part(first, last))
            continue
        starts, *columns = leaf.part(first, last)
        rows = np.zeros(int(starts[-1]) + 1, np.int64)
        columns = iter(columns)
        values = []
        for column in leaf.leaves:
            values.append(next(columns))
            if len(column) > 1:
                rows = next(columns)
        made = schedules.schedule(starts, rows, divided)
        flat += [made.of_groups, made.segments, made.members, *values]
    return [divided.of_blocks, divided.starts, divided.order], flat

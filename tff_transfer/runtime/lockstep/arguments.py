"""The clients' values as the arrays that a function of groups in lockstep takes."""

import functools
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
    parts, sequences = [], []
    for leaf in leaves:
        parts.append(leaf.part(first, last))
        if isinstance(leaf, ClientSequences):
            sequences.append(_bounds(leaf, parts[-1]))
    divided, made = _scheduled(
        tuple(cut - first for cut in cuts),
        most,
        tuple((starts.tobytes(), rows.tobytes()) for starts, rows in sequences),
    )
    made, flat = iter(made), []
    for leaf, part in zip(leaves, parts, strict=True):
        if isinstance(leaf, ClientTensors):
            flat.extend(part)
            continue
        schedule = next(made)
        flat += [schedule.of_groups, schedule.segments, schedule.members]
        flat += _values(leaf, part)
    return [divided.of_blocks, divided.starts, divided.order], flat


def _columns(leaf: ClientSequences, part: list[np.ndarray]):
    """Yields the arrays of each tensor of an element."""
    arrays = iter(part[1:])
    for column in leaf.leaves:
        yield [next(arrays) for _ in column]


def _values(leaf: ClientSequences, part: list[np.ndarray]) -> list[np.ndarray]:
    return [values for values, *_ in _columns(leaf, part)]


def _bounds(
    leaf: ClientSequences, part: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns where each client's elements start, and each element's rows."""
    starts = part[0]
    rows = [rest[0] for _, *rest in _columns(leaf, part) if rest]
    return starts, rows[-1] if rows else np.zeros(int(starts[-1]) + 1, np.int64)


# Clients of a silo come with as many examples in each round. Of eight blocks there
# are eight calls at most, unless blocks are large.
@functools.lru_cache(maxsize=16)
def _scheduled(
    cuts: tuple[int, ...], most: int, sequences: tuple[tuple[bytes, bytes], ...]
) -> tuple[schedules.Groups, tuple[schedules.Schedule, ...]]:
    """Returns the groups of clients and their schedules.

    Args:
      cuts: The first client of each block, and the one after the last.
      most: The most clients of a group.
      sequences: For each sequence where each client's elements start, int64
        [clients + 1], and each element's rows, int64 [elements + 1].
    """
    bounds = [tuple(np.frombuffer(b, np.int64) for b in pair) for pair in sequences]
    steps = np.zeros(cuts[-1], np.int64)
    for starts, _ in bounds:
        steps += np.diff(starts)
    divided = schedules.groups(steps, cuts, most)
    return divided, tuple(schedules.schedule(*pair, divided) for pair in bounds)

"""Which blocks go in one call, and which call goes where, by size."""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

Place = TypeVar('Place', bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Share:
    """Neighbouring blocks that run in one call.

    Attributes:
      cuts: The first client of each block, and the one after the last.
      size: About how many bytes their clients' values take.
      first: How many blocks of the cohort come before them.
    """

    cuts: tuple[int, ...]
    size: float
    first: int


def shares(cuts: Sequence[int], sizes: Sequence[float], calls: int) -> list[Share]:
    """Joins neighbouring blocks so that the largest share is as small as can be.

    Args:
      cuts: The first client of each block, and the one after the last.
      sizes: About how many bytes each block's values take.
      calls: The most shares that are wanted.

    Returns:
      The shares, in the order of the blocks.
    """
    low, high = max(sizes), float(sum(sizes))
    bounds = _within(sizes, high)
    while high - low > 1e-6 * high:
        limit = (low + high) / 2
        found = _within(sizes, limit)
        if len(found) <= calls:
            bounds, high = found, limit
        else:
            low = limit
    starts = [0, *bounds]
    return [
        Share(tuple(cuts[a : b + 1]), float(sum(sizes[a:b])), a)
        for a, b in zip(starts, bounds, strict=False)
    ]


def _within(sizes: Sequence[float], limit: float) -> list[int]:
    """Returns where shares end, each as large as the limit lets it be."""
    ends, total = [], 0.0
    for number, size in enumerate(sizes):
        if number and total + size > limit:
            ends.append(number)
            total = 0.0
        total += size
    return [*ends, len(sizes)]


def assign(
    waiting: Mapping[int, float], free: Mapping[Place, int]
) -> list[tuple[int, Place]]:
    """Returns what starts now: the largest first, each where most is free.

    Args:
      waiting: The sizes of the shares that wait, by their numbers.
      free: How many calls each place can take.
    """
    left, started = dict(free), []
    for number in sorted(waiting, key=lambda number: (-waiting[number], number)):
        place = max(left, key=left.get, default=None)
        if place is None or left[place] < 1:
            break
        left[place] -= 1
        started.append((number, place))
    return started

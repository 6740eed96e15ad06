"""Which blocks' states are merged with which: neighbours, in a tree.

Its pairs hang on the number of blocks alone. So whoever has neighbouring blocks may
merge pairs that lie within them, and the sum is the same to the last bit.
"""

import itertools
from collections.abc import Iterator, Sequence

# Left, right, and a number that no other pair has.
Merge = tuple[int, int, int]


def _pairs(blocks: int) -> Iterator[tuple[int, int, int]]:
    """Yields of each pair its first block, the right half's, and the one after all."""
    step = 1
    while step < blocks:
        for left in range(0, blocks - step, 2 * step):
            yield left, left + step, min(left + 2 * step, blocks)
        step *= 2


def within(
    first: int, last: int, blocks: int
) -> tuple[list[Merge], list[int], list[int]]:
    """Returns what can be merged of neighbouring blocks without the others.

    Args:
      first: The first of them.
      last: The one after the last.
      blocks: How many there are in all.

    Returns:
      The merges, in order, with blocks counted from `first`: the left one's state
      becomes that of both. Which are left, likewise; and of how many blocks the state
      of each of these is then.
    """
    merges = [
        (left - first, right - first, right)
        for left, right, end in _pairs(blocks)
        if first <= left and end <= last
    ]
    merged = {right for _, right, _ in merges}
    kept = [block for block in range(last - first) if block not in merged]
    spans = [b - a for a, b in itertools.pairwise([*kept, last - first])]
    return merges, kept, spans


def remaining(spans: Sequence[int]) -> list[Merge]:
    """Returns the merges that make one state of all, after those `within` parts.

    Args:
      spans: Of how many blocks each state is.
    """
    firsts = [0, *itertools.accumulate(spans)]
    place = {first: number for number, first in enumerate(firsts[:-1])}
    return [
        (place[left], place[right], right)
        for left, right, _ in _pairs(firsts[-1])
        if right in place
    ]

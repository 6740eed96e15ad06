"""What the tests of a grid say, in words and as a table."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from experiments.compare import statistics
from experiments.compare.figures import Judged
from experiments.compare.statistics import Pair

UNSEEN, ALL = 'clients who never trained', 'clients, seen and unseen'
# Arms up to which the page has all pairs.
_ALL_PAIRS = 6


@dataclasses.dataclass(frozen=True)
class Tested:
    """The tests of all pairs of arms, on some clients.

    Attributes:
      on: Which clients.
      clients: How many.
      names: The arms.
      means: The mean over these clients of each arm.
      pairs: All pairs.
      tiers: The groups of arms that cannot be told apart from their best.
    """

    on: str
    clients: int
    names: tuple[str, ...]
    means: tuple[float, ...]
    pairs: tuple[Pair, ...]
    tiers: tuple[tuple[int, ...], ...]

    @property
    def ranked(self) -> list[int]:
        """The places of the arms, the best first."""
        return sorted(range(len(self.means)), key=lambda arm: (-self.means[arm], arm))

    def against(self, first: int, second: int) -> Pair:
        """Returns a pair of arms with the one that is named first as the first."""
        for pair in self.pairs:
            if (pair.first, pair.second) == (first, second):
                return pair
            if (pair.second, pair.first) == (first, second):
                return dataclasses.replace(
                    pair,
                    first=first,
                    second=second,
                    difference=-pair.difference,
                    low=-pair.high,
                    high=-pair.low,
                )
        raise KeyError((first, second))


def tested(those: Judged) -> list[Tested]:
    """Tests all pairs of arms on unseen clients, and on all; not where none are."""
    found, names = [], tuple(each.name for each in those.found)
    everyone = np.ones(len(those.unseen), bool)
    kinds = [(UNSEEN, those.unseen), (ALL, everyone)]
    if those.unseen.all() or not those.unseen.any():
        kinds = [(UNSEEN if those.unseen.all() else ALL, everyone)]
    for on, which in kinds:
        values = those.values[:, which]
        if not values.shape[1]:
            continue
        means = tuple(values.mean(axis=1).tolist())
        pairs = statistics.pairs(values)
        tiers = tuple(map(tuple, statistics.tiers(means, pairs)))
        found.append(Tested(on, int(which.sum()), names, means, tuple(pairs), tiers))
    return found


def points(value: float) -> str:
    """Writes a difference of shares in points of a percent."""
    return f'{round(100 * value, 2) + 0:+.2f}'  # Not -0.00.


def told(pair: Pair) -> str:
    """Returns a difference in points with its interval."""
    return f'{points(pair.difference)} ({points(pair.low)} to {points(pair.high)})'


def said(those: Tested) -> list[str]:
    """Returns who is best, who cannot be told apart from it, and by how much others.

    Returns:
      Sentences.
    """
    best, *others = those.ranked
    begin = f'{those.names[best]} has the highest mean: {those.means[best]:.2%}.'
    if not others:
        return [begin]
    alike = [arm for arm in others if not those.against(best, arm).apart]
    rest = [arm for arm in others if arm not in alike]
    lines = [begin]
    if alike:
        names = _listed([those.names[arm] for arm in alike])
        lines.append(f'It cannot be told apart from {names}.')
    if rest:
        pair = those.against(best, rest[0])
        more = f' and {len(rest) - 1} more' if len(rest) > 1 else ''
        lines.append(
            f'It is told apart from {those.names[rest[0]]}{more}: there by'
            f' {told(pair)} points, p = {p_value(pair.adjusted)}.'
        )
    for tier in those.tiers[1:]:
        if len(tier) > 1:
            first, *behind = (those.names[arm] for arm in tier)
            lines.append(f'{first} cannot be told apart from {_listed(behind)}.')
    return lines


def _listed(names: Sequence[str]) -> str:
    *others, end = names
    return f'{"; ".join(others)} and {end}' if others else end


def p_value(p: float) -> str:
    """Writes a p value."""
    return f'{p:.3f}' if p >= 0.001 else f'{p:.0e}'


def table(those: Tested, every: bool = False) -> list[list[str]]:
    """Returns the pairs as rows of cells, the first one the headings.

    Args:
      those: The tests.
      every: Whether to have all pairs where there are many, or those of the best.
    """
    head = ['', 'against', 'points', '95 % interval', 'p', 'p (Holm)', 'told apart']
    ranked, rows = those.ranked, [head]
    shown = ranked[:-1] if every or len(ranked) <= _ALL_PAIRS else ranked[:1]
    for place, first in enumerate(shown):
        for second in ranked[place + 1 :]:
            pair = those.against(first, second)
            rows.append(
                [
                    those.names[first],
                    those.names[second],
                    points(pair.difference),
                    f'{points(pair.low)} to {points(pair.high)}',
                    p_value(pair.p),
                    p_value(pair.adjusted),
                    'yes' if pair.apart else 'no',
                ]
            )
    return rows

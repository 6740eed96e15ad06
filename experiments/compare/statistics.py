"""Whether arms can be told apart, by the same clients under each of them."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import scipy.stats

from tff_transfer import randomness

# An interval's share, and how often clients are drawn for one.
LEVEL, DRAWS = 0.95, 10_000
# Of so many clients, all signs that their differences may have are gone through.
_EXACT = 12


@dataclasses.dataclass(frozen=True)
class Pair:
    """One arm against another.

    Attributes:
      first: The place of the one.
      second: That of the other.
      difference: The mean over clients of the one's values minus the other's.
      low: Where the 95 % interval of that begins, by drawing clients.
      high: Where it ends.
      p: Of Wilcoxon's signed-rank test that both are alike, two-sided.
      adjusted: The same by Holm's correction for all pairs.
    """

    first: int
    second: int
    difference: float
    low: float
    high: float
    p: float
    adjusted: float

    @property
    def apart(self) -> bool:
        """Whether both can be told apart."""
        return self.adjusted < 1 - LEVEL


def drawn_means(values: np.ndarray) -> np.ndarray:
    """Returns means over clients drawn with replacement, [draws, k].

    Efron and Tibshirani 1993, "An introduction to the bootstrap". The clients drawn
    are the same for each column, and in each call with as many clients.

    Args:
      values: [clients, k].
    """
    clients = len(values)
    draw = randomness.generator(0, 'bootstrap of clients')
    counts = draw.multinomial(clients, np.full(clients, 1 / clients), DRAWS)
    return counts.astype(float) @ values / clients


def interval(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ends of the percentile interval of each column of drawn values."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return low, high


def wilcoxon(differences: np.ndarray) -> float:
    """Returns p of the signed-rank test that paired differences are around 0.

    Wilcoxon 1945; clients without a difference say nothing. Of few clients by all ways
    in which signs may fall, of more by the normal distribution, with ties corrected.

    Args:
      differences: [clients].
    """
    # Sums of the same fractions in another order are to tie.
    differences = np.round(differences, 9)
    differences = differences[differences != 0]
    count = len(differences)
    if count > _EXACT:
        return float(scipy.stats.wilcoxon(differences, mode='approx').pvalue)
    ranks = scipy.stats.rankdata(np.abs(differences))
    signs = (np.arange(2**count)[:, None] >> np.arange(count)) % 2 * 2 - 1
    observed = abs(np.sign(differences) @ ranks)
    return float(np.mean(np.abs(signs @ ranks) >= observed - 1e-9))


def holm(p: Sequence[float]) -> np.ndarray:
    """Returns adjusted p values: Holm 1979, a simple sequentially rejective test.

    Args:
      p: Of all tests, [tests].
    """
    p = np.asarray(p, float)
    order = np.argsort(p, kind='stable')
    stepped = np.minimum(p[order] * np.arange(len(p), 0, -1), 1)
    found = np.empty(len(p))
    found[order] = np.maximum.accumulate(stepped)
    return found


def pairs(values: np.ndarray) -> list[Pair]:
    """Compares all arms with each other.

    Args:
      values: How each client fared under each arm, [arms, clients].

    Returns:
      All pairs of two arms, those of the first one first; none without clients.
    """
    arms, clients = values.shape
    if not clients or arms < 2:
        return []
    first, second = np.array([*itertools.combinations(range(arms), 2)]).T
    differences = (values[first] - values[second]).T
    low, high = interval(drawn_means(differences))
    p = [wilcoxon(column) for column in differences.T]
    columns = (differences.mean(axis=0), low, high, p, holm(p))
    return [
        Pair(*map(int, places), *map(float, numbers))
        for *places, numbers in zip(
            first, second, zip(*columns, strict=True), strict=True
        )
    ]


def tiers(means: Sequence[float], compared: Sequence[Pair]) -> list[list[int]]:
    """Groups arms: the best and those that cannot be told apart from it, and so on.

    Args:
      means: The mean of each arm, of which more is better.
      compared: All pairs of them.

    Returns:
      The places of the arms of each group, the best first, in groups of which each
      begins with the best of the arms that are left.
    """
    apart = {frozenset((pair.first, pair.second)): pair.apart for pair in compared}
    left = sorted(range(len(means)), key=lambda arm: (-means[arm], arm))
    found = []
    while left:
        best, *others = left
        alike = [arm for arm in others if not apart.get(frozenset((best, arm)), False)]
        found.append([best, *alike])
        left = [arm for arm in others if arm not in alike]
    return found


def worst_tenth(values: np.ndarray) -> np.ndarray:
    """Returns the mean of the lowest tenth of values, rounded up, along the last axis.

    Args:
      values: [..., clients], at least one client.
    """
    count = math.ceil(values.shape[-1] / 10)
    return np.sort(values, axis=-1)[..., :count].mean(axis=-1)


def worst_interval(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Returns the interval of a difference of worst tenths, by drawing clients.

    Args:
      first: How each client fared under one arm, [clients].
      second: The same under another.
    """
    draw = randomness.generator(0, 'bootstrap of clients')
    places = draw.integers(len(first), size=(DRAWS // 10, len(first)))
    low, high = interval(worst_tenth(first[places]) - worst_tenth(second[places]))
    return float(low), float(high)


def spread_interval(differences: np.ndarray) -> tuple[float, float] | None:
    """Returns Student's interval of the mean of some differences, one of each seed.

    Returns:
      Its ends; None of fewer than two seeds.
    """
    count = len(differences)
    if count < 2:
        return None
    half = scipy.stats.t.ppf((1 + LEVEL) / 2, count - 1)
    half *= np.std(differences, ddof=1) / math.sqrt(count)
    mean = np.mean(differences)
    return float(mean - half), float(mean + half)

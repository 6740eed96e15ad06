"""Epsilon as canary clients show it in one run.

Andrew et al. 2023, "One-shot empirical privacy estimation for federated learning":
some clients send nothing but a random direction. How well the model's change tells
them from directions that nobody sent is compared, as two normal distributions, with
what (epsilon, delta) allows. The estimate is for such canaries, who know nothing of
the others: it may be far below epsilon, and should not be above.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy import optimize, special, stats

# The confidence of the lower bound.
LEVEL = 0.95
# More than any epsilon that is told.
_MOST = 1e6
_DEVIATIONS = 17


class Normal(NamedTuple):
    """A normal distribution, by mean and standard deviation."""

    mean: float
    deviation: float


class Estimate(NamedTuple):
    """What canaries show.

    Attributes:
      epsilon: The estimate.
      low: The end of its one-sided 95 % interval.
      observed: The fitted distribution of the canaries' cosines.
      null: That of directions that nobody sent.
    """

    epsilon: float
    low: float
    observed: Normal
    null: Normal


def direction(seed, number, size: int) -> tf.Tensor:
    """Returns a canary's random unit vector, float32 [size], also inside a graph.

    Args:
      seed: The seed.
      number: The canary's number: a function of both, on either side of a run.
      size: How many weights there are.
    """
    seeds = [tf.cast(part, tf.int64) for part in (seed, number)]
    drawn = tf.random.stateless_normal([size], seeds)
    return drawn / tf.norm(drawn)


def cosines(canaries: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """Returns the cosines of canaries with changes of a model.

    Args:
      canaries: Unit vectors, float [canaries, size].
      changes: Float [changes, size].

    Returns:
      float64 [changes, canaries]; 0 for a change of nothing.
    """
    norms = np.linalg.norm(changes, axis=1, keepdims=True).astype(np.float64)
    return np.divide(
        changes @ canaries.T, norms, out=np.zeros((len(changes), len(canaries))),
        where=norms > 0,
    )  # fmt: skip


def null_of_final(size: int) -> Normal:
    """Returns the distribution of a random direction's cosine with a given one.

    Nearly normal where there are hundreds of dimensions.

    Args:
      size: How many dimensions there are.
    """
    return Normal(0.0, size**-0.5)


def fitted(values: np.ndarray) -> Normal:
    """Returns the normal distribution of values, [n], two or more."""
    return Normal(float(np.mean(values)), float(np.std(values, ddof=1)))


def estimate(values: np.ndarray, null: Normal, delta: float) -> Estimate:
    """Estimates epsilon of what canaries came to.

    The lower bound takes the values as independent and normal, as the estimate does:
    it is the least epsilon of all means and deviations in a region of 95 %, half of
    the error for the mean (Student's t, one-sided), half for the deviation
    (chi-squared, two-sided); the null distribution counts as known.

    Args:
      values: Each canary's cosine with the final change, or the greatest of all
        rounds', float [canaries], two or more.
      null: The same of directions that nobody sent.
      delta: The delta of the guarantee.
    """
    observed, count = fitted(values), len(values)
    error = (1 - LEVEL) / 2
    reach = stats.t.ppf(1 - error, count - 1) * observed.deviation / math.sqrt(count)
    ends = stats.chi2.ppf([1 - error / 2, error / 2], count - 1)
    least, most = observed.deviation * np.sqrt((count - 1) / ends)
    # No more than that says: a mean on the null's side tells of nothing.
    mean = max(observed.mean - reach, null.mean)
    low = min(
        epsilon_of(Normal(mean, deviation), null, delta)
        for deviation in np.linspace(least, most, _DEVIATIONS)
    )
    return Estimate(epsilon_of(observed, null, delta), low, observed, null)


def epsilon_of(first: Normal, second: Normal, delta: float) -> float:
    """Returns the least epsilon by which two distributions are (epsilon, delta)-close.

    Exactly (their appendix A): where the ratio of densities is above e^epsilon is
    known in closed form, so both hockey-stick divergences are too.

    Args:
      first: A distribution.
      second: Another.
      delta: The delta, above 0.

    Returns:
      Epsilon, infinite beyond a million.
    """

    def above(epsilon: float) -> float:
        one = divergence(first, second, epsilon)
        return max(one, divergence(second, first, epsilon)) - delta

    if above(0.0) <= 0:
        return 0.0
    most = 1.0
    while above(most) > 0:
        most *= 2
        if most > _MOST:
            return math.inf
    return float(optimize.brentq(above, 0.0, most, xtol=1e-9))


def divergence(first: Normal, second: Normal, epsilon: float) -> float:
    """Returns the hockey-stick divergence of order e^epsilon of two distributions.

    That is the least delta with which `first` is at most e^epsilon times `second`.
    """
    # Log of the ratio of densities, less epsilon, in units of the second: a quadratic.
    mean = (first.mean - second.mean) / second.deviation
    scale = first.deviation / second.deviation
    a = 0.5 - 0.5 / scale**2
    b = mean / scale**2
    c = -0.5 * mean**2 / scale**2 - math.log(scale) - epsilon
    one = [(mean, scale), (0.0, 1.0)]

    def mass(low: float, high: float) -> float:
        """Returns how much more of the first there is in an interval."""
        in_first, in_second = (_log_mass((low - m) / s, (high - m) / s) for m, s in one)
        return math.exp(in_first) - math.exp(min(epsilon + in_second, in_first))

    if abs(a) < 1e-12:
        if b == 0:
            return 0.0
        place = -c / b
        return mass(place, math.inf) if b > 0 else mass(-math.inf, place)
    root = b * b - 4 * a * c
    if root <= 0:
        return 0.0 if a < 0 else mass(-math.inf, math.inf)
    # The stable form: no difference of what is nearly equal.
    q = -0.5 * (b + math.copysign(math.sqrt(root), b))
    low, high = sorted((q / a, c / q))
    if a < 0:
        return mass(low, high)
    return mass(-math.inf, low) + mass(high, math.inf)


def _log_mass(low: float, high: float) -> float:
    """Returns the log of a standard normal's mass between two places."""
    if low > 0:  # The lower tail alone is exact far out.
        low, high = -high, -low
    upper, lower = special.log_ndtr(high), special.log_ndtr(low)
    if lower == -math.inf:
        return float(upper)
    if upper <= lower:
        return -math.inf
    return float(upper + math.log1p(-math.exp(lower - upper)))

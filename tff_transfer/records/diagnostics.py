"""How good a test of two classes is, with intervals: what accuracy alone hides.

Scores are higher where the positive class, label 1, is likelier; calibration takes
them as its probabilities.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.stats

from tff_transfer import randomness
from tff_transfer.errors import UserError

LEVEL = 0.95
BINS = 10


class AUC(NamedTuple):
    """Areas under ROC curves of several scores on the same examples.

    Attributes:
      areas: float64 [scores].
      covariance: DeLong's estimate of their covariance, float64 [scores, scores].
    """

    areas: np.ndarray
    covariance: np.ndarray

    def interval(self, number: int) -> tuple[float, float]:
        """Returns the normal interval of an area, cut to [0, 1]."""
        low, high = _normal(self.areas[number], self.covariance[number, number])
        return max(low, 0.0), min(high, 1.0)

    def difference(self, first: int, second: int) -> tuple[float, tuple[float, float]]:
        """Returns how much larger the first area is, and the normal interval."""
        contrast = np.zeros(len(self.areas))
        contrast[first] += 1
        contrast[second] -= 1
        found = float(contrast @ self.areas)
        return found, _normal(found, contrast @ self.covariance @ contrast)


class Calibration(NamedTuple):
    """A reliability curve: examples by the probability that they were given.

    Attributes:
      predicted: The mean probability in each bin that has examples, float64 [bins].
      observed: The share of positive ones among them, float64 [bins].
      counts: How many they are, int64 [bins].
    """

    predicted: np.ndarray
    observed: np.ndarray
    counts: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap, weighted by counts."""
        return float(
            np.average(np.abs(self.predicted - self.observed), weights=self.counts)
        )


def delong(labels: np.ndarray, scores: np.ndarray) -> AUC:
    """Computes areas under ROC curves and their covariance.

    DeLong, DeLong, Clarke-Pearson 1988, "Comparing the areas under two or more
    correlated receiver operating characteristic curves", by the midranks of Sun and Xu
    2014, "Fast implementation of DeLong's algorithm", algorithm 2. Where a score parts
    the classes without error its variance is 0, and the interval says too much.

    Args:
      labels: 0 or 1, [n], at least two of each.
      scores: [scores, n]; equal ones count half.

    Raises:
      UserError: There are too few examples of a class.
    """
    labels, scores = np.asarray(labels).astype(bool), np.atleast_2d(scores)
    positive, negative = scores[:, labels], scores[:, ~labels]
    m, n = positive.shape[1], negative.shape[1]
    if min(m, n) < 2:
        raise UserError(
            f'{m} positive and {n} negative examples; an interval of the ROC AUC needs'
            ' two of each'
        )
    rank = scipy.stats.rankdata
    together = rank(np.concatenate([positive, negative], axis=1), axis=1)
    # How much of the other class each example is ranked right against.
    of_positive = (together[:, :m] - rank(positive, axis=1)) / n
    of_negative = 1 - (together[:, m:] - rank(negative, axis=1)) / m
    covariance = np.cov(of_positive) / m + np.cov(of_negative) / n
    return AUC(of_positive.mean(axis=1), np.atleast_2d(covariance))


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the area under a ROC curve alone, as the rank sum of Mann and Whitney.

    Args:
      labels: 0 or 1, [n], some of each.
      scores: [n]; equal ones count half.
    """
    positive = np.asarray(labels) == 1
    m = np.count_nonzero(positive)
    ranks = scipy.stats.rankdata(scores)[positive].sum()
    return float((ranks - m * (m + 1) / 2) / (m * (len(positive) - m)))


def youden_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """Returns the score from which on an example is called positive.

    Youden 1950, "Index for rating diagnostic tests": the observed score, the highest of
    equally good ones, for which sensitivity plus specificity is largest.

    Args:
      labels: 0 or 1, [n], some of each.
      scores: [n].
    """
    thresholds = np.unique(scores)[::-1]
    indices = [sum(sensitivity_specificity(labels, scores, t)) for t in thresholds]
    return float(thresholds[np.argmax(indices)])


def sensitivity_specificity(
    labels: np.ndarray, scores: np.ndarray, threshold: float
) -> tuple[float, float]:
    """Returns the shares of positive and of negative examples that are called so.

    Args:
      labels: 0 or 1, [n], some of each.
      scores: [n].
      threshold: The least score that is called positive.
    """
    positive, called = np.asarray(labels) == 1, np.asarray(scores) >= threshold
    return float(called[positive].mean()), float(1 - called[~positive].mean())


def calibration(
    labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS
) -> Calibration:
    """Computes a reliability curve of equally wide bins.

    Naeini, Cooper, Hauskrecht 2015, "Obtaining well calibrated probabilities using
    Bayesian binning", for the positive class.

    Args:
      labels: 0 or 1, [n], at least one.
      probabilities: Of label 1, [n], in [0, 1].
      bins: How many there are.
    """
    place = np.minimum((np.asarray(probabilities) * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    used = counts > 0
    predicted, observed = (
        np.bincount(place, weights=values, minlength=bins)[used] / counts[used]
        for values in (probabilities, labels)
    )
    return Calibration(predicted, observed, counts[used])


def bootstrap(
    labels: np.ndarray,
    scores: np.ndarray,
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Computes percentile intervals, each class drawn with replacement by itself.

    Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13.

    Args:
      labels: 0 or 1, [n].
      scores: [n].
      statistic: A function of labels and scores to numbers, [k].
      draws: How often examples are drawn.
      seed: The seed of the draws.

    Returns:
      The lower and the upper ends, float64 [k] each.
    """
    draw = randomness.generator(seed, 'bootstrap')
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    found = []
    for _ in range(draws):
        rows = np.concatenate([draw.choice(rows, len(rows)) for rows in classes])
        found.append(statistic(labels[rows], scores[rows]))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(found, [tail, 1 - tail], axis=0)
    return low, high


def _normal(value: float, variance: float) -> tuple[float, float]:
    half = scipy.stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt(max(variance, 0.0))
    return float(value - half), float(value + half)

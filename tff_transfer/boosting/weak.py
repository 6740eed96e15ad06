"""Weak learners: trained by a client on weighted examples, and sent.

What is learnt is a tuple of arrays of fixed shapes, so that a server's state holds it.
"""

import dataclasses
from typing import Protocol

import numpy as np

from tff_transfer.boosting import trees
from tff_transfer.options import Variants, option

Learnt = tuple[np.ndarray, ...]


class Learner(Protocol):
    """What clients train; a dataclass of options."""

    def fit(
        self, x: np.ndarray, y: np.ndarray, weights: np.ndarray, classes: int
    ) -> Learnt:
        """Learns from a client's examples.

        Args:
          x: Its inputs, [m, ...], m above 0.
          y: Its labels, integers [m].
          weights: Above 0, float64 [m].
          classes: How many labels there are.
        """

    def predict(self, learnt: Learnt, x: np.ndarray) -> np.ndarray:
        """Returns the label that is predicted of each example, int64 [n]."""


@dataclasses.dataclass(frozen=True)
class Means:
    """The nearest weighted mean of a class; of classes that the client has.

    A linear classifier: -2 <x, m> + |m|^2 is least. Inputs are vectors.
    """

    def fit(
        self, x: np.ndarray, y: np.ndarray, weights: np.ndarray, classes: int
    ) -> Learnt:
        """Learns from a client's examples (see `Learner`)."""
        by_class = np.eye(classes)[y] * weights[:, None]
        sums = by_class.sum(0)
        means = np.divide(
            by_class.T @ x,
            sums[:, None],
            out=np.full((classes, x.shape[1]), np.nan),
            where=sums[:, None] > 0,
        )
        return (means.astype(np.float32),)

    def predict(self, learnt: Learnt, x: np.ndarray) -> np.ndarray:
        """Returns predicted labels (see `Learner`)."""
        (means,) = learnt
        known = ~np.isnan(means[:, 0])
        some = means[known]
        distance = np.sum(some**2, 1) - 2 * x @ some.T
        return np.flatnonzero(known)[np.argmin(distance, 1)]


@dataclasses.dataclass(frozen=True)
class Tree:
    """A tree that lowers the weighted Gini impurity; inputs are bins."""

    depth: int = option(3, 'Levels of splits.', at_least=1, at_most=12)
    bins: int = option(16, 'Bins of a feature.', at_least=2, at_most=256)

    def fit(
        self, x: np.ndarray, y: np.ndarray, weights: np.ndarray, classes: int
    ) -> Learnt:
        """Learns from a client's examples (see `Learner`), uint8 [m, features]."""
        columns, node = x.T, np.zeros(len(y), np.int64)
        numbers = np.concatenate([np.eye(classes)[y].T * weights, weights[None]])
        feature, threshold = [], []
        # A weight is above 0 however small, and so is a side that has an example.
        rule = trees.Rule(min_hessian=float(weights.min()) / 2)
        for level in range(self.depth):
            found = trees.histograms(columns, node, numbers, 2**level, self.bins)
            split = trees.split(found, rule)
            feature.append(split.feature)
            threshold.append(split.threshold)
            node = trees.descend(columns, node, split.feature, split.threshold)
        labels = np.argmax(split.sums[:-1], 0).astype(np.uint8)
        return np.concatenate(feature), np.concatenate(threshold), labels

    def predict(self, learnt: Learnt, x: np.ndarray) -> np.ndarray:
        """Returns predicted labels (see `Learner`)."""
        feature, threshold, labels = learnt
        return labels[trees.leaves(x.T, feature, threshold)].astype(np.int64)


LEARNERS = Variants(__package__, {'means': Means, 'tree': Tree})

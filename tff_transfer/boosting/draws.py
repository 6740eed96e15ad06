"""Which predictors are sent, and how what comes back is weighted.

A predictor's weight of first order is 0 where it is not sent and has expectation 1; so
has the weight of second order of each pair of predictors. So a sum over predictors, or
over pairs of them, is estimated without bias by what the sent ones tell.
"""

import dataclasses
from typing import NamedTuple, Protocol

import numpy as np

from tff_transfer.errors import UserError


class Draw(NamedTuple):
    """What is sent in a round.

    Attributes:
      sent: The numbers of the sent predictors, ascending, int64 [c].
      first: Weights of first order, float64 [c].
      pairs: Those of second order, float64 [c, c]; None if a single predictor is
        drawn, of which no pair is ever seen.
    """

    sent: np.ndarray
    first: np.ndarray
    pairs: np.ndarray | None


class Rule(Protocol):
    """How predictors are drawn; a dataclass."""

    def draw(
        self, weights: np.ndarray, count: int, generator: np.random.Generator
    ) -> Draw:
        """Draws predictors.

        Args:
          weights: The ensemble's, float64 [q].
          count: How many are drawn.
          generator: The source of the draw.
        """


@dataclasses.dataclass(frozen=True)
class Uniform:
    """So many different predictors, all sets alike."""

    def draw(
        self, weights: np.ndarray, count: int, generator: np.random.Generator
    ) -> Draw:
        """Draws predictors (see `Rule`)."""
        chosen = generator.choice(len(weights), count, replace=False)
        return self.of(np.sort(chosen), len(weights))

    def of(self, sent: np.ndarray, size: int) -> Draw:
        """Returns the draw in which some of `size` predictors are sent."""
        count = len(sent)
        first = np.full(count, size / count)
        if count == 1 < size:
            return Draw(sent, first, None)
        both = size * (size - 1) / max(count * (count - 1), 1)
        pairs = np.full((count, count), both)
        np.fill_diagonal(pairs, size / count)
        return Draw(sent, first, pairs)


@dataclasses.dataclass(frozen=True)
class Weighted:
    """Drawn one by one, with replacement, by the ensemble's weights.

    Attributes:
      floor: The share of the probability that is the same for all: without it a
        predictor of little weight is drawn hardly ever, and then counts for much.
    """

    floor: float

    def probabilities(self, weights: np.ndarray) -> np.ndarray:
        """Returns how probable each predictor is in a draw, float64 [q]."""
        return (1 - self.floor) * weights + self.floor / len(weights)

    def draw(
        self, weights: np.ndarray, count: int, generator: np.random.Generator
    ) -> Draw:
        """Draws predictors (see `Rule`); those drawn twice are sent once."""
        probabilities = self.probabilities(weights)
        chosen = generator.choice(len(weights), count, p=probabilities)
        return self.of(np.bincount(chosen, minlength=len(weights)), probabilities)

    def of(self, times: np.ndarray, probabilities: np.ndarray) -> Draw:
        """Returns the draw in which each predictor came up so many times."""
        count, sent = int(np.sum(times)), np.flatnonzero(times)
        share = times[sent] / probabilities[sent]
        first = share / count
        if count == 1:
            return Draw(sent, first, None)
        pairs = np.outer(share, share) / (count * (count - 1))
        np.fill_diagonal(pairs, first)
        return Draw(sent, first, pairs)


def check(count: int, predictors: int) -> None:
    """Checks how many predictors are sent.

    Raises:
      UserError: None, or more than there are.
    """
    if not 1 <= count <= predictors:
        raise UserError(
            f'{count} predictors cannot be sent of {predictors}; give a number from 1'
            f' to {predictors}'
        )

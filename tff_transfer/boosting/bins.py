"""Features as small integers, by edges that the clients agree on.

Two exchanges: each client sends the least and the greatest value of each feature, and
then counts of its examples in cells of equal width between the extremes of all. Sums of
the counts tell the quantiles to within a cell, and edges stand at these. Extremes are
seen by the server for each client by itself; counts may be summed securely.
"""

import dataclasses

import numpy as np
from scipy import stats

from tff_transfer.boosting.examples import Examples
from tff_transfer.errors import UserError

# A bin is a byte.
MOST = 256
# Cells of a bin: what quantiles are known to.
_CELLS = 4


@dataclasses.dataclass(frozen=True, eq=False)
class Bins:
    """Edges of bins.

    Attributes:
      edges: float32 [features, bins - 1], ascending; where several are equal, bins
        between them stay empty.
      bytes_up: What each client sent for them.
      bytes_down: What each client gets: extremes and edges.
    """

    edges: np.ndarray
    bytes_up: int = 0
    bytes_down: int = 0

    @property
    def count(self) -> int:
        """How many bins a feature has."""
        return self.edges.shape[1] + 1

    def columns(self, x: np.ndarray) -> np.ndarray:
        """Returns the bin of each value, a row for each feature.

        Args:
          x: float [n, features].

        Returns:
          uint8 [features, n]: how many edges are below the value.
        """
        found = np.empty(x.shape[::-1], np.uint8)
        for number, edges in enumerate(self.edges):
            found[number] = np.searchsorted(edges, x[:, number], side='left')
        return found


def _check(bins: int) -> None:
    if not 2 <= bins <= MOST:
        raise UserError(f'{bins} bins cannot be had; give a number from 2 to {MOST}')


def agreed(examples: Examples, bins: int) -> Bins:
    """Returns edges at the quantiles of all clients' examples.

    Args:
      examples: With features as `x`, float [n, features].
      bins: How many bins, from 2 to 256.

    Raises:
      UserError: Another number, or inputs that are no finite vectors.
    """
    _check(bins)
    x = examples.x
    if x.ndim != 2 or not np.isfinite(x).all():
        raise UserError(
            f'trees take vectors of finite numbers, not inputs of shape {x.shape} with'
            ' others; give features'
        )
    starts = examples.splits[:-1][examples.sizes > 0]
    least = np.minimum.reduceat(x, starts).min(0).astype(np.float64)
    most = np.maximum.reduceat(x, starts).max(0).astype(np.float64)
    cells = _CELLS * bins
    width = np.where(most > least, (most - least) / cells, 1)
    edges = np.empty((x.shape[1], bins - 1), np.float32)
    wanted = np.arange(1, bins) / bins * len(x)
    for number in range(x.shape[1]):
        # Values on a cell's right side belong to it, as those on an edge do to its bin.
        cell = np.ceil((x[:, number] - least[number]) / width[number]) - 1
        counts = np.bincount(np.clip(cell, 0, cells - 1).astype(int), minlength=cells)
        place = np.searchsorted(np.cumsum(counts), wanted)
        edges[number] = least[number] + (place + 1) * width[number]
    extremes, number = 8 * x.shape[1], 4
    return Bins(
        edges,
        extremes + number * x.shape[1] * cells,
        extremes + number * edges.size,
    )


def public(features: int, bins: int) -> Bins:
    """Returns edges at the quantiles of the standard normal distribution.

    For features that are standardised without looking at others' examples: nothing of
    any example is in these edges, and nothing travels.

    Args:
      features: How many features there are.
      bins: How many bins, from 2 to 256.

    Raises:
      UserError: Another number.
    """
    _check(bins)
    quantiles = stats.norm.ppf(np.arange(1, bins) / bins)
    return Bins(np.tile(quantiles.astype(np.float32), (features, 1)))

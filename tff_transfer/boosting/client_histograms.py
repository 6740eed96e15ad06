"""The histograms of a level of trees, summed over clients."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from tff_transfer.boosting import trees
from tff_transfer.boosting.summing import Summing

# Numbers of clients' vectors that are in memory at a time.
_AT_ONCE = 2**24


@dataclasses.dataclass(frozen=True, eq=False)
class Level:
    """What is counted: the examples at the nodes of a level of K trees.

    Attributes:
      columns: Bins of the examples, uint8 [features, n].
      node: In each tree the node of each example, int64 [K, n].
      numbers: In each tree what is summed, float64 [K, sums, n].
      nodes: How many nodes the level has.
      bins: How many bins there are.
    """

    columns: np.ndarray
    node: np.ndarray
    numbers: np.ndarray
    nodes: int
    bins: int

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the histograms, [K, sums, nodes, features, bins]."""
        return (*self.numbers.shape[:2], self.nodes, len(self.columns), self.bins)


def total(
    summing: Summing,
    level: Level,
    splits: np.ndarray,
    sensitivity: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """Returns the histograms of all clients, float64 `level.shape`.

    Args:
      summing: How clients' histograms become one.
      level: What is counted.
      splits: Where each client's rows start, and the end, int64 [clients + 1].
      sensitivity: By how much an example changes the sum, in L2 norm.
      generator: The source of noise.
    """
    apart = splits if summing.by_client else splits[[0, -1]]
    found = summing.total(
        _vectors(level, apart), len(splits) - 1, sensitivity, generator
    )
    return found.reshape(level.shape)


def _vectors(level: Level, splits: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the histograms of some clients at a time, float64 [some, length]."""
    some = max(1, _AT_ONCE // int(np.prod(level.shape)))
    for first in range(0, len(splits) - 1, some):
        of = splits[first : first + some + 1]
        rows, count = slice(int(of[0]), int(of[-1])), len(of) - 1
        # A client's nodes are nodes of its own.
        owner = np.repeat(np.arange(count), np.diff(of)) * level.nodes
        by_tree = np.stack(
            [
                trees.histograms(
                    level.columns[:, rows],
                    owner + node[rows],
                    numbers[:, rows],
                    count * level.nodes,
                    level.bins,
                )
                for node, numbers in zip(level.node, level.numbers, strict=True)
            ]
        )
        apart = by_tree.reshape(*level.shape[:2], count, -1)
        yield np.moveaxis(apart, 2, 0).reshape(count, -1)

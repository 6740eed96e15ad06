"""Trees that grow level by level from histograms.

Of each node, feature and bin the sums of some numbers of the examples decide: G of each
output and H, of which the last stands behind the others. A split's gain is that of Chen
& Guestrin 2016, "XGBoost", equation 7, without the half:
sum_o G_o^2 / (H + penalty) of both sides, less that of the node. With an example's
weight as H, and that weight as the G of its class, it is the decrease of the Gini
impurity.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

# Examples times features that are counted at once.
_AT_ONCE = 2**18
# To what share of a node's score a gain is known.
_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class Rule:
    """When a node is split.

    Attributes:
      penalty: What is added to H, at least 0.
      min_hessian: The least H of each side, above 0.
      min_gain: What a gain must be above.
    """

    penalty: float = 0.0
    min_hessian: float = 1e-3
    min_gain: float = 0.0


class Splits(NamedTuple):
    """How the nodes of a level are split.

    A node that is not split sends all of its examples to its left side.

    Attributes:
      feature: int32 [nodes].
      threshold: The last bin of the left side, uint8 [nodes].
      sums: Of the nodes of the next level, float64 [sums, 2 nodes].
    """

    feature: np.ndarray
    threshold: np.ndarray
    sums: np.ndarray


def histograms(
    columns: np.ndarray, node: np.ndarray, numbers: np.ndarray, nodes: int, bins: int
) -> np.ndarray:
    """Returns sums of numbers by node, feature and bin.

    Args:
      columns: Bins, uint8 [features, n].
      node: The node of each example, int64 [n] in [0, nodes).
      numbers: What is summed, float64 [sums, n].
      nodes: How many nodes.
      bins: How many bins.

    Returns:
      float64 [sums, nodes, features, bins].
    """
    features, n = columns.shape
    result = np.zeros((len(numbers), nodes, features, bins))
    block = max(1, _AT_ONCE // max(n, 1))
    base = node * bins
    for start in range(0, features, block):
        some = columns[start : start + block]
        own = np.arange(len(some))[:, None] * (nodes * bins)
        index = (some + base + own).ravel()
        for place, of in enumerate(numbers):
            weights = np.broadcast_to(of, some.shape).ravel()
            counted = np.bincount(index, weights, len(some) * nodes * bins)
            shaped = counted.reshape(len(some), nodes, bins).swapaxes(0, 1)
            result[place, :, start : start + block] = shaped
    return result


def _score(sums: np.ndarray, penalty: float) -> np.ndarray:
    """Returns sum_o G_o^2 / (H + penalty) of sums [sums, ...]; 0 where H is not."""
    whole = sums[-1] + penalty
    square = np.sum(sums[:-1] ** 2, 0)
    return np.divide(square, whole, out=np.zeros_like(square), where=whole > 0)


def split(found: np.ndarray, rule: Rule) -> Splits:
    """Returns the best split of each node.

    Of equal gains the first feature's, and its last threshold, as LightGBM has it
    where no value is missing.

    Args:
      found: What `histograms` gives, float64 [sums, nodes, features, bins].
      rule: When a node is split.
    """
    _, nodes, features, bins = found.shape
    right = np.flip(np.cumsum(np.flip(found, -1), -1), -1)
    whole, right = right[..., 0], right[..., 1:]
    left = whole[..., None] - right
    gain = _score(left, rule.penalty) + _score(right, rule.penalty)
    before = _score(whole, rule.penalty)[..., None]
    gain -= before
    fits = np.minimum(left[-1], right[-1]) >= rule.min_hessian
    # Where nothing is gained, as in a node of one class, what is left is rounding.
    least = np.maximum(rule.min_gain, _ROUNDING * before)
    gain = np.where(fits & (gain > least), gain, -np.inf)
    # The last threshold of the first feature: reversed, the first of all.
    best = np.argmax(np.flip(gain, -1).reshape(nodes, -1), 1)
    feature, threshold = best // (bins - 1), bins - 2 - best % (bins - 1)
    of = np.arange(nodes)
    is_split = np.isfinite(gain[of, feature, threshold])
    feature = np.where(is_split, feature, 0)
    sides = np.stack([left, right], -1)[:, of, feature, threshold]
    stays = np.stack([whole[:, of, 0], np.zeros_like(whole[:, of, 0])], -1)
    sums = np.where(is_split[:, None], sides, stays)
    return Splits(
        feature.astype(np.int32),
        np.where(is_split, threshold, bins - 1).astype(np.uint8),
        sums.reshape(len(found), 2 * nodes),
    )


def descend(
    columns: np.ndarray, node: np.ndarray, feature: np.ndarray, threshold: np.ndarray
) -> np.ndarray:
    """Returns the node of each example one level deeper, int64 [n].

    Args:
      columns: Bins, uint8 [features, n].
      node: The node of each example, [n].
      feature: That each node of this level asks for, [nodes].
      threshold: The last bin of its left side, [nodes].
    """
    value = columns[feature[node], np.arange(len(node))]
    return 2 * node + (value > threshold[node])


def leaves(
    columns: np.ndarray, feature: np.ndarray, threshold: np.ndarray
) -> np.ndarray:
    """Returns the leaf of each example, int64 [n].

    Args:
      columns: Bins, uint8 [features, n].
      feature: Of all nodes, the root first, then level by level, [2^depth - 1].
      threshold: The same of thresholds.
    """
    node = np.zeros(columns.shape[1], np.int64)
    first, count = 0, 1
    while first < len(feature):
        level = slice(first, first + count)
        node = descend(columns, node, feature[level], threshold[level])
        first, count = first + count, 2 * count
    return node


def values(sums: np.ndarray, penalty: float) -> np.ndarray:
    """Returns the Newton step of each leaf, float64 [outputs, leaves].

    Args:
      sums: Of the leaves, float64 [outputs + 1, leaves].
      penalty: What is added to H.
    """
    whole = sums[-1] + penalty
    step = np.zeros_like(sums[:-1])
    return np.divide(-sums[:-1], whole, out=step, where=whole > 0)

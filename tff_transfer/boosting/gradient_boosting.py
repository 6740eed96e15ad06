"""Gradient-boosted trees whose histograms are summed over clients.

The horizontal form of Chen & Guestrin 2016, "XGBoost", and Ke et al. 2017, "LightGBM":
each client holds examples with all features. Softmax over K classes, one tree for each
class in a round. For each level of these K trees the clients send sums of gradients and
hessians by node, feature and bin; the server adds them, splits each node where the gain
is largest, and sends the splits back. No example's prediction leaves its client.

Gradients and hessians are cut to multiples of 2^-30, so that sums of them are exact in
float64 in whatever order: over clients the trees are those of all examples in one
place, bit for bit.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from scipy import special

from tff_transfer import randomness
from tff_transfer.boosting import client_histograms, trees
from tff_transfer.boosting.bins import Bins
from tff_transfer.boosting.examples import Examples
from tff_transfer.boosting.summing import Summing
from tff_transfer.errors import UserError
from tff_transfer.options import check, check_effects, option

_GRID = 2.0**30
_FLOAT, _NUMBER = 8, 4


@dataclasses.dataclass(frozen=True)
class Boosting:
    """Gradient boosting."""

    rounds: int = option(50, 'Rounds; each has a tree for each class.', at_least=1)
    depth: int = option(4, 'Levels of splits of a tree.', at_least=1, at_most=12)
    learning_rate: float = option(0.1, 'What leaves are multiplied with.', above=0)
    penalty: float = option(0.0, 'The L2 penalty of leaves.', at_least=0)
    min_hessian: float = option(1e-3, 'The least hessian of a leaf.', above=0)
    min_gain: float = option(0.0, 'What the gain of a split is above.', at_least=0)
    features: int | None = option(
        None, 'Features of a round, drawn anew in each; all if not given.', at_least=1
    )

    @property
    def rule(self) -> trees.Rule:
        """When a node is split."""
        return trees.Rule(self.penalty, self.min_hessian, self.min_gain)


class State(NamedTuple):
    """What the server has; of rounds to come it is 0.

    Attributes:
      prior: What every example's scores are before the first round, float64 [K].
      feature: int32 [rounds, K, 2^depth - 1], as `trees.leaves` takes them.
      threshold: uint8 [rounds, K, 2^depth - 1].
      values: float64 [rounds, K, 2^depth].
      rounds: How many rounds there were, int64.
    """

    prior: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    values: np.ndarray
    rounds: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What is learnt from.

    Attributes:
      options: How.
      examples: The clients' examples; only their labels and places are used.
      columns: Their bins, uint8 [features, n].
      bins: How many bins there are.
      summing: How clients' histograms become one.
    """

    options: Boosting
    examples: Examples
    columns: np.ndarray
    bins: int
    summing: Summing

    @classmethod
    def of(
        cls,
        options: Boosting,
        examples: Examples,
        bins: Bins,
        summing: Summing | None = None,
    ) -> 'Task':
        """Checks these, and puts values into bins.

        Raises:
          UserError: They do not fit together.
        """
        summing = summing or Summing()
        for part in (options, summing.secure, summing.noise):
            if part is not None:
                check(part)
                check_effects(part)
        if examples.x.ndim != 2 or examples.x.shape[1] != len(bins.edges):
            raise UserError(
                f'inputs of shape {examples.x.shape} are not of the {len(bins.edges)}'
                ' features that have bins'
            )
        if (options.features or 1) > len(bins.edges):
            raise UserError(
                f'{options.features} features a round are more than there are'
                f' ({len(bins.edges)})'
            )
        if summing.noise is not None and bins.bytes_up:
            raise UserError(
                'edges that clients agreed on tell of their examples without noise;'
                ' take those of bins.public'
            )
        if summing.secure is not None:
            summing.secure.quantiser(len(examples))  # It says what cannot be.
        return cls(options, examples, bins.columns(examples.x), bins.count, summing)

    @property
    def features(self) -> int:
        """Features of a round."""
        return self.options.features or len(self.columns)

    @property
    def sums(self) -> int:
        """How many sums over clients all rounds take: one for each level."""
        return self.options.rounds * self.options.depth

    @property
    def sensitivity(self) -> float:
        """By how much an example changes a level's sums at most, in L2 norm.

        For each feature it is in one bin of each of K trees. Its gradients are p - e_y,
        of squared norm at most 2; its hessians K / (K - 1) p (1 - p), whose squares
        sum to at most (K / (K - 1))^2 / 4.
        """
        classes = self.examples.num_classes
        factor = classes / (classes - 1)
        return math.sqrt(self.features * (2 + factor**2 / 4))


def initialize(task: Task) -> State:
    """Returns no trees; scores begin at the log of the classes' shares.

    The clients' counts of labels are summed for that; with noise nothing is, and
    scores begin at 0.
    """
    options, classes = task.options, task.examples.num_classes
    shape = (options.rounds, classes)
    prior = np.zeros(classes)
    if task.summing.noise is None:
        counts = np.bincount(task.examples.y, minlength=classes)
        prior = np.log(np.maximum(counts / counts.sum(), 1e-15))
    nodes = 2**options.depth
    return State(
        prior,
        np.zeros((*shape, nodes - 1), np.int32),
        np.zeros((*shape, nodes - 1), np.uint8),
        np.zeros((*shape, nodes)),
        np.int64(0),
    )


def scores(state: State, columns: np.ndarray) -> np.ndarray:
    """Returns the scores of examples, float64 [K, n]; `softmax` makes probabilities.

    Args:
      state: The trees.
      columns: Bins of the examples, uint8 [features, n].
    """
    found = np.repeat(state.prior[:, None], columns.shape[1], 1)
    for number in range(int(state.rounds)):
        found = found + _steps(state, number, columns)
    return found


def _steps(state: State, number: int, columns: np.ndarray) -> np.ndarray:
    """Returns what the trees of a round add to scores, float64 [K, n]."""
    return np.stack(
        [
            value[trees.leaves(columns, feature, threshold)]
            for feature, threshold, value in zip(
                state.feature[number],
                state.threshold[number],
                state.values[number],
                strict=True,
            )
        ]
    )


def derivatives(found: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns gradients and hessians of the log-loss, float64 [K, 2, n].

    Hessians are K / (K - 1) times the diagonal's, as in LightGBM. All are cut towards
    0 to multiples of 2^-30.

    Args:
      found: Scores, float64 [K, n].
      labels: Integers [n].
    """
    classes = len(found)
    share = special.softmax(found, axis=0)
    gradient = share - (np.arange(classes)[:, None] == labels)
    hessian = classes / (classes - 1) * share * (1 - share)
    return np.trunc(np.stack([gradient, hessian], 1) * _GRID) / _GRID


def next_round(
    task: Task, state: State, found: np.ndarray, seed: int
) -> tuple[State, np.ndarray, dict[str, int]]:
    """Grows a tree for each class.

    Args:
      task: What is learnt from.
      state: What the server has before it.
      found: The training examples' scores by these trees, which the clients keep.
      seed: The seed of features and noise.

    Returns:
      State and scores after it, and `bytes/down` and `bytes/up` of all clients.
    """
    options, number = task.options, int(state.rounds)
    classes, clients = task.examples.num_classes, len(task.examples)
    chosen = np.arange(len(task.columns))
    if options.features is not None:
        generator = randomness.generator(seed, 'features', number)
        chosen = np.sort(generator.choice(len(chosen), options.features, replace=False))
    columns, numbers = task.columns[chosen], derivatives(found, task.examples.y)
    node = np.zeros((classes, columns.shape[1]), np.int64)
    feature, threshold, up, down = [], [], 0, 0
    for level in range(options.depth):
        nodes = 2**level
        generator = randomness.generator(seed, 'histogram noise', number, level)
        total = client_histograms.total(
            task.summing,
            client_histograms.Level(columns, node, numbers, nodes, task.bins),
            task.examples.splits,
            task.sensitivity,
            generator,
        )
        splits = [trees.split(of, options.rule) for of in total]
        feature.append(chosen[np.stack([s.feature for s in splits])])
        threshold.append(np.stack([s.threshold for s in splits]))
        node = np.stack(
            [
                trees.descend(columns, of, split.feature, split.threshold)
                for of, split in zip(node, splits, strict=True)
            ]
        )
        spent = task.summing.bytes(clients, total.size)
        up += spent[0]
        down += spent[1] + classes * nodes * (_NUMBER + 1)
    steps = [trees.values(split.sums, options.penalty)[0] for split in splits]
    values = options.learning_rate * np.stack(steps)
    down += _FLOAT * values.size
    after = _with_trees(state, feature, threshold, values)
    found = found + np.take_along_axis(values, node, 1)
    return after, found, {'bytes/down': clients * down, 'bytes/up': clients * up}


def _with_trees(
    state: State,
    feature: list[np.ndarray],
    threshold: list[np.ndarray],
    values: np.ndarray,
) -> State:
    """Returns a state with a round's trees, of which lists have the levels."""
    number = int(state.rounds)
    arrays = [state.feature.copy(), state.threshold.copy(), state.values.copy()]
    arrays[0][number] = np.concatenate(feature, 1)
    arrays[1][number] = np.concatenate(threshold, 1)
    arrays[2][number] = values
    return State(state.prior, *arrays, np.int64(number + 1))

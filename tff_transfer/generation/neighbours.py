"""Whether generated examples are copies of training examples."""

from typing import NamedTuple

import numpy as np

from tff_transfer import randomness

# Rows of one product.
_BLOCK = 1024


class Neighbours(NamedTuple):
    """How near generated examples are to training examples and to others.

    Attributes:
      ratio: The mean distance to the nearest training example, over that to the
        nearest of as many test examples. A model that copies goes to 0; one that
        learned the distribution alone is at 1.
      nearer: The share of generated examples whose nearest one is a training example;
        a half where nothing is copied.
    """

    ratio: float
    nearer: float


def nearest(of: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Returns the Euclidean distance of each vector to the nearest of others.

    Args:
      of: float [n, size].
      among: float [m, size], m at least 1.

    Returns:
      float64 [n].
    """
    of, among = np.asarray(of, np.float64), np.asarray(among, np.float64)
    squares, found = np.sum(among**2, axis=1), []
    for start in range(0, len(of), _BLOCK):
        block = of[start : start + _BLOCK]
        apart = squares - 2 * block @ among.T
        found.append(np.sum(block**2, axis=1) + apart.min(axis=1))
    # Of equal vectors rounding may leave less than nothing.
    return np.sqrt(np.maximum(np.concatenate([np.zeros(0), *found]), 0))


def memorised(
    generated: np.ndarray, train: np.ndarray, test: np.ndarray, *, seed: int = 0
) -> Neighbours:
    """Compares generated examples with training examples and with as many others.

    More examples have nearer ones among them, so the larger of both sets is drawn
    from. As in Meehan, Chaudhuri, Dasgupta 2020, "A non-parametric test to detect
    data-copying in generative models", what tells copies is that training examples are
    nearer than test examples of the same distribution are.

    Args:
      generated: float [n, size].
      train: What the model was trained on, float [m, size].
      test: Examples of the same distribution that it was not, float [k, size].
      seed: Of the draw.
    """
    draw = randomness.generator(seed, 'neighbours')
    count = min(len(train), len(test))
    to_train, to_test = (
        nearest(generated, of[np.sort(draw.permutation(len(of))[:count])])
        for of in (train, test)
    )
    ratio = float(to_train.mean() / to_test.mean()) if to_test.any() else np.nan
    tied = to_train == to_test
    nearer = np.where(tied, 0.5, to_train < to_test)
    return Neighbours(ratio, float(nearer.mean()))

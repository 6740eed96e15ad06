"""Draws of some clients, one after another in proportion to weights."""

import numpy as np


def drawn(log_weights: np.ndarray, size: int, draw: np.random.Generator) -> np.ndarray:
    """Draws places without replacement, each in proportion to the weights left.

    The largest sums of a log weight and Gumbel noise are such a draw (Vieira 2014,
    "Gumbel-max trick and weighted reservoir sampling"), which neither underflows nor
    fails where few weights are above 0.

    Args:
      log_weights: Logarithms of weights, float64 [places]. Infinite ones, and those
        that are not a number, come first, and weights of 0 last, by chance.
      size: How many are drawn, at most as many as there are.
      draw: Gives the noise.

    Returns:
      Places, int64 [size], in the order drawn.
    """
    noise = draw.gumbel(size=len(log_weights))
    weights = np.where(np.isnan(log_weights), np.inf, log_weights)
    return np.lexsort((noise, weights + noise))[::-1][:size]


def log(weights: np.ndarray) -> np.ndarray:
    """Returns logarithms of weights, of which some may be 0."""
    with np.errstate(divide='ignore'):
        return np.log(weights)

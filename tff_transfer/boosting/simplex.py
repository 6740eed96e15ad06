"""Mirror descent on the simplex: exponentiated gradient.

Kivinen & Warmuth 1997, "Exponentiated gradient versus gradient descent for linear
predictors"; with negative entropy as mirror map the Bregman projection is division by
the sum.
"""

import numpy as np


def uniform(size: int) -> np.ndarray:
    """Returns equal weights, float64 [size]."""
    return np.full(size, 1 / size)


def step(weights: np.ndarray, gradient: np.ndarray, rate: float) -> np.ndarray:
    """Returns the minimiser of rate <gradient, w> + KL(w, weights) on the simplex.

    It is `weights * exp(-rate * gradient)`, divided by the sum of that.

    Args:
      weights: float64 [size], at least 0, with sum 1.
      gradient: float64 [size], finite.
      rate: The step size; a negative one goes up.
    """
    exponents = -rate * gradient
    # What has weight decides the scale: the largest of these becomes 1.
    exponents -= np.max(exponents[weights > 0])
    found = weights * np.exp(np.minimum(exponents, 0))
    return found / np.sum(found)

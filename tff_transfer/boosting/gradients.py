"""What a client tells of an ensemble of which it has some predictors.

The ensemble's answer is the mean of its predictors' probabilities, weighted by w. Of a
client's m examples (x, y), with the predictors' answers h_k(x), the squared loss (Brier
score) is the mean of |sum_k w_k h_k(x) - e_y|^2, and the log-loss that of
-log sum_k w_k h_k(x)_y.
"""

from collections.abc import Callable

import numpy as np

from tff_transfer.boosting.draws import Draw
from tff_transfer.errors import UserError

# Answers of 0 to the right class would be infinitely wrong.
_LEAST = 1e-6


def moments(answers: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns all that the squared loss of a client hangs on.

    Args:
      answers: h, float [c, m, classes].
      labels: y, integers [m].

    Returns:
      The mean of <h_j(x), h_k(x)>, float64 [c, c], and of h_k(x)_y, float64 [c].
    """
    flat = answers.reshape(len(answers), -1).astype(np.float64)
    right = answers[:, np.arange(len(labels)), labels].mean(1, dtype=np.float64)
    return flat @ flat.T / len(labels), right


def of_pairs(
    draw: Draw, weights: np.ndarray, answers: np.ndarray, labels: np.ndarray
) -> tuple[float, np.ndarray]:
    """Returns the squared loss and its gradient, both without bias.

    The loss is a sum over pairs of predictors, so pairs that are sent together, with
    weights of second order, tell it: over all draws the mean is the loss, and the mean
    of the gradient the gradient, of the whole ensemble.

    Args:
      draw: What was sent.
      weights: Those of the sent predictors in the ensemble, float64 [c].
      answers: h of these, float [c, m, classes].
      labels: y, integers [m].

    Returns:
      The loss, and float64 [c]: the derivative by each sent predictor's weight.

    Raises:
      UserError: A single predictor was drawn.
    """
    if draw.pairs is None:
        raise UserError(
            'of a single predictor no pair is seen, by which the squared loss could be'
            ' told without bias; send 2 or more, or use estimator squared'
        )
    inner, right = moments(answers, labels)
    quadratic = (draw.pairs * inner) @ weights
    linear = draw.first * right
    loss = weights @ quadratic - 2 * weights @ linear + 1
    return float(loss), 2 * (quadratic - linear)


def of_squared(
    draw: Draw, weights: np.ndarray, answers: np.ndarray, labels: np.ndarray
) -> tuple[float, np.ndarray]:
    """Returns the squared loss and its gradient at the ensemble that was sent.

    As in Hamer et al. 2020: a sent predictor's weight is that in the ensemble times
    that of first order. The weights are unbiased; the gradient at them is not, unless
    all are sent: squares of weights of first order have a mean above 1.

    Args and result as of `of_pairs`; the gradient has weights of first order.
    """
    inner, right = moments(answers, labels)
    sent = draw.first * weights
    loss = sent @ inner @ sent - 2 * sent @ right + 1
    return float(loss), draw.first * 2 * (inner @ sent - right)


def of_log(
    draw: Draw, weights: np.ndarray, answers: np.ndarray, labels: np.ndarray
) -> tuple[float, np.ndarray]:
    """Returns the log-loss and its gradient at the ensemble that was sent.

    As `of_squared`, with the loss of density estimation, which is the paper's. Of a
    single predictor the gradient is -1 / weight whatever it answers.
    """
    right = answers[:, np.arange(len(labels)), labels].astype(np.float64)
    right = np.maximum(right, _LEAST)
    # A predictor may have lost all of its weight, and be the only one that is sent.
    mixed = np.maximum((draw.first * weights) @ right, _LEAST**2)
    return float(-np.log(mixed).mean()), draw.first * -(right / mixed).mean(1)


Estimator = Callable[
    [Draw, np.ndarray, np.ndarray, np.ndarray], tuple[float, np.ndarray]
]
ESTIMATORS: dict[str, Estimator] = {
    'pairs': of_pairs,
    'squared': of_squared,
    'log': of_log,
}

"""Who was trained on, guessed from a model's losses.

By the loss alone: Yeom et al. 2018, "Privacy risk in machine learning: analyzing the
connection to overfitting". By what the loss is in models that were trained with and
without a target: Carlini et al. 2022, "Membership inference attacks from first
principles" (LiRA), the online variant, with one variance of all targets, as they advise
where there are few models (their section VI.C). A target is an example or a client:
then it is the mean over its examples.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats
from sklearn import metrics

from tff_transfer.errors import UserError

# Rates of false positives at which attacks are told.
RATES = (0.01, 0.001)
# A rate is told where so many false positives make it.
_COUNTED = 10
# The least loss that float32 tells from 0.
_LEAST = 1e-7


class Attack(NamedTuple):
    """How well members are told from others.

    Attributes:
      area: The area under the ROC curve; 0.5 is a guess.
      at_rate: The rate of true positives at each of `RATES` of false ones; None where
        there are too few who are no members to tell.
      false_positives: The ROC curve, float64 [points].
      true_positives: The same.
      members: How many were members, over all models.
      others: How many were not.
    """

    area: float
    at_rate: dict[float, float | None]
    false_positives: np.ndarray
    true_positives: np.ndarray
    members: int
    others: int


def signals(losses: np.ndarray) -> np.ndarray:
    """Returns the log odds of the right class, which are nearly normal.

    Args:
      losses: Cross-entropies, float [...].

    Returns:
      log(p / (1 - p)), float64 [...], of p = exp(-loss) (their equation 6).
    """
    losses = np.maximum(np.asarray(losses, np.float64), _LEAST)
    return -losses - np.log(-np.expm1(-losses))


def lira(signals: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Returns how much likelier each target is a member, in each of several models.

    For each model the others are the shadow models (leave one out).

    Args:
      signals: What each model says of each target, float [models, targets].
      members: Whether the model was trained on it, bool [models, targets].

    Returns:
      Log likelihood ratios, float64 [models, targets].

    Raises:
      UserError: A target is a member, or none, of fewer than three models.
    """
    members = np.asarray(members, bool)
    signals = np.asarray(signals, np.float64)
    found = np.zeros(signals.shape)
    for sign, of in ((1, members), (-1, ~members)):
        count = of.sum(0)
        if (count < 3).any():
            raise UserError(
                'each target must be a member of three shadow models and no member of'
                ' three others; give more --shadow_runs'
            )
        sums = np.where(of, signals, 0).sum(0)
        # Of the others alone: a model's own answer leaves mean and spread.
        means = (sums - np.where(of, signals, 0)) / (count - of)
        squares = np.where(of, (signals - sums / count) ** 2, 0).sum(0) / (count - 1)
        spread = np.sqrt(max(squares.mean(), np.finfo(float).tiny))
        found += sign * stats.norm.logpdf(signals, means, spread)
    return found


def attack(scores: np.ndarray, members: np.ndarray) -> Attack:
    """Returns how well scores tell members from others.

    Args:
      scores: Higher where a member is likelier, float [...].
      members: Who is one, bool [...].
    """
    scores, members = np.ravel(scores), np.ravel(members)
    false, true, _ = metrics.roc_curve(members, scores)
    others = int(np.sum(~members))
    at_rate = {}
    for rate in RATES:
        known = others * rate >= _COUNTED
        place = np.searchsorted(false, rate, 'right') - 1
        at_rate[rate] = float(true[place]) if known else None
    area = float(metrics.auc(false, true))
    return Attack(area, at_rate, false, true, int(np.sum(members)), others)

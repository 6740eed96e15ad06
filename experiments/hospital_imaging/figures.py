"""What is said of the models: figures with intervals, for each seed and over all."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from experiments.hospital_imaging.study import ALONE, Judged
from tff_transfer.records import diagnostics

DRAWS = 1000  # of the bootstrap


class Interval(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f'{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]'


class Figures(NamedTuple):
    """What a model comes to on a hospital's test examples.

    Attributes:
      auc: The area under the ROC curve, with DeLong's interval.
      auc_bootstrap: The same with the bootstrap's; so have the next three.
      sensitivity: Of the threshold with the largest Youden index on validation
        examples.
      specificity: The same threshold's.
      calibration_error: Expected, of ten bins.
      gain: How much larger the area is than that of the model of the hospital alone,
        with DeLong's interval of the difference; None for that model itself.
      threshold: That threshold.
    """

    auc: Interval
    auc_bootstrap: Interval
    sensitivity: Interval
    specificity: Interval
    calibration_error: Interval
    gain: Interval | None
    threshold: float


def figures(judged: Judged, alone: Judged) -> Figures:
    """Returns what a model comes to.

    Args:
      judged: What it says.
      alone: What the model says that the same hospital made alone, in the same seed.
    """
    threshold = diagnostics.youden_threshold(*judged.validation)
    labels, scores = judged.test
    areas = diagnostics.delong(labels, np.stack([scores, alone.test[1]]))

    def statistics(labels, scores):
        return np.array(
            [
                diagnostics.auc(labels, scores),
                *diagnostics.sensitivity_specificity(labels, scores, threshold),
                diagnostics.calibration(labels, scores).error,
            ]
        )

    values = statistics(labels, scores)
    ends = diagnostics.bootstrap(
        labels, scores, statistics, draws=DRAWS, seed=judged.seed
    )
    difference, of_difference = areas.difference(0, 1)
    return Figures(
        Interval(float(areas.areas[0]), *areas.interval(0)),
        *(Interval(*map(float, three)) for three in zip(values, *ends, strict=True)),
        None if judged.method == ALONE else Interval(difference, *of_difference),
        threshold,
    )


def typical(found: Sequence[Interval]) -> Interval:
    """Returns the means over seeds of a figure and of its interval's ends."""
    return Interval(*np.mean(found, axis=0).tolist())


def over_seeds(found: Sequence[Interval]) -> Interval | None:
    """Returns the mean over seeds of a figure with Student's interval of it.

    None for one seed, of which there is no spread.
    """
    if len(found) < 2:
        return None
    values = [each.value for each in found]
    mean, error = np.mean(values), scipy.stats.sem(values)
    quantile = scipy.stats.t.ppf((1 + diagnostics.LEVEL) / 2, len(values) - 1)
    return Interval(
        float(mean), float(mean - quantile * error), float(mean + quantile * error)
    )


def verdict(gains: Sequence[Interval]) -> str:
    """Says in words what gains of several seeds show.

    The interval over seeds decides; of one seed, DeLong's.
    """
    spread, one = over_seeds(gains), typical(gains)
    sign = _sign(one if spread is None else spread)
    if not sign:
        said = 'not shown: the interval holds 0'
    else:
        said = 'better' if sign > 0 else 'worse'
        if spread is not None:
            alike = _sign(one) == sign
            said += (
                ', in one seed too' if alike else ' over seeds; in one seed not shown'
            )
    above = sum(_sign(gain) > 0 for gain in gains)
    below = sum(_sign(gain) < 0 for gain in gains)
    return f"{said} (DeLong's above 0 in {above}, below in {below} of {len(gains)})"


def _sign(interval: Interval) -> int:
    """Returns 1 if an interval is above 0, -1 if below, 0 if it holds it."""
    return int(interval.low > 0) - int(interval.high < 0)

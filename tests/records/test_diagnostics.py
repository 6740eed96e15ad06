"""Tests of two classes against scikit-learn, definitions by loops, and by hand."""

import itertools

import numpy as np
import pytest
import scipy.stats
from sklearn import metrics

from tff_transfer.errors import UserError
from tff_transfer.records import diagnostics


def examples(count=60, seed=0):
    """Labels, and two scores that say something of them and have ties."""
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 2, count)
    scores = labels + draw.normal(0, 1.2, (2, count))
    return labels, np.round(1 / (1 + np.exp(-scores)), 1)


def placements(labels, scores):
    """DeLong's V10 and V01 by their definition, a loop over pairs."""

    def psi(x, y):
        return 1.0 if x > y else 0.5 if x == y else 0.0

    positive, negative = scores[labels == 1], scores[labels == 0]
    v10 = [np.mean([psi(x, y) for y in negative]) for x in positive]
    v01 = [np.mean([psi(x, y) for x in positive]) for y in negative]
    return v10, v01


def test_areas_and_their_covariance_are_delong_s():
    labels, scores = examples()
    found = diagnostics.delong(labels, scores)
    v = [placements(labels, s) for s in scores]
    for number, of_score in enumerate(scores):
        expected = metrics.roc_auc_score(labels, of_score)
        assert found.areas[number] == pytest.approx(expected)
        assert diagnostics.auc(labels, of_score) == pytest.approx(expected)
    for r, s in itertools.product(range(2), repeat=2):
        total = 0
        for side in range(2):
            a, b = v[r][side], v[s][side]
            products = [
                (x - np.mean(a)) * (y - np.mean(b)) for x, y in zip(a, b, strict=True)
            ]
            total += sum(products) / (len(a) - 1) / len(a)
        assert found.covariance[r, s] == pytest.approx(total)


def test_intervals_of_an_area_and_of_a_difference():
    found = diagnostics.AUC(
        np.array([0.9, 0.8]), np.array([[4e-4, 1e-4], [1e-4, 1e-4]])
    )
    assert found.interval(0) == pytest.approx((0.9 - 0.0392, 0.9 + 0.0392), abs=1e-5)
    difference, (low, high) = found.difference(0, 1)
    half = 1.959964 * np.sqrt(4e-4 + 1e-4 - 2e-4)
    assert difference == pytest.approx(0.1)
    assert (low, high) == pytest.approx((0.1 - half, 0.1 + half), abs=1e-6)
    assert diagnostics.AUC(np.array([0.99]), np.array([[1e-2]])).interval(0)[1] == 1


def test_delong_s_intervals_hold_the_truth_as_often_as_they_say():
    draw = np.random.default_rng(1)
    truth, held = scipy.stats.norm.cdf(1 / np.sqrt(2)), 0
    labels = np.repeat([0, 1], [60, 40])
    for _ in range(400):
        found = diagnostics.delong(labels, draw.normal(labels, 1))
        low, high = found.interval(0)
        held += low < truth < high
    assert 0.9 < held / 400 < 0.98


def test_a_class_of_one_example_is_refused():
    with pytest.raises(UserError, match='two of each'):
        diagnostics.delong(np.array([0, 0, 1]), np.array([0.1, 0.2, 0.3]))


def test_the_threshold_has_the_largest_youden_index():
    labels, (scores, _) = examples(seed=3)
    false, true, thresholds = metrics.roc_curve(labels, scores, drop_intermediate=False)
    expected = thresholds[np.argmax(true - false)]
    found = diagnostics.youden_threshold(labels, scores)
    assert found == pytest.approx(expected)
    sensitivity, specificity = diagnostics.sensitivity_specificity(
        labels, scores, found
    )
    called = scores >= found
    assert sensitivity == pytest.approx(metrics.recall_score(labels, called))
    assert specificity == pytest.approx(
        metrics.recall_score(labels, called, pos_label=0)
    )


def test_calibration_by_hand():
    labels = np.array([0, 1, 1, 1, 0])
    probabilities = np.array([0.1, 0.2, 0.7, 0.9, 1.0])
    found = diagnostics.calibration(labels, probabilities, bins=2)
    np.testing.assert_allclose(found.predicted, [0.15, 2.6 / 3])
    np.testing.assert_allclose(found.observed, [0.5, 2 / 3])
    assert found.counts.tolist() == [2, 3]
    assert found.error == pytest.approx(2 / 5 * 0.35 + 3 / 5 * 0.2)
    assert diagnostics.calibration(labels, labels.astype(float)).error == 0


def test_the_bootstrap_is_the_normal_interval_of_means():
    draw = np.random.default_rng(2)
    labels = np.repeat([0, 1], [500, 300])
    scores = draw.normal(labels, 1)

    def means(labels, scores):
        return np.array([scores[labels == 0].mean(), np.mean(labels)])

    low, high = diagnostics.bootstrap(labels, scores, means, draws=2000)
    half = 1.96 * scores[:500].std() / np.sqrt(500)
    assert (high[0] - low[0]) / 2 == pytest.approx(half, rel=0.07)
    assert (high[0] + low[0]) / 2 == pytest.approx(scores[:500].mean(), abs=0.01)
    # Classes keep their sizes.
    assert low[1] == high[1] == 300 / 800
    again = diagnostics.bootstrap(labels, scores, means, draws=2000)
    np.testing.assert_array_equal(again, (low, high))

"""Tests of significance against SciPy and by hand."""

import numpy as np
import pytest
import scipy.stats

from experiments.compare import statistics
from experiments.compare.statistics import Pair


def test_wilcoxon_is_scipys():
    draw = np.random.default_rng(1)
    few = draw.normal(0.5, 1, 9)
    theirs = scipy.stats.wilcoxon(few, mode='exact').pvalue
    assert statistics.wilcoxon(few) == pytest.approx(theirs)
    many = draw.integers(-3, 6, 60) / 10  # With ties, and zeros, which say nothing.
    theirs = scipy.stats.wilcoxon(many[many != 0], mode='approx').pvalue
    assert statistics.wilcoxon(many) == pytest.approx(theirs)


def test_wilcoxon_of_few_with_ties_by_hand():
    # Ranks 1.5, 1.5, 3 of differences 1, 1, 2: of eight ways of signs two are as far.
    assert statistics.wilcoxon(np.array([0.1, 0.1, 0.2, 0])) == 2 / 8
    # The sum of signed ranks is 1.5 - 1.5 + 3 = 3: as far are all but 0, 0 (two ways).
    assert statistics.wilcoxon(np.array([0.1, -0.1, 0.2])) == 6 / 8
    assert statistics.wilcoxon(np.zeros(5)) == 1
    # 0.3 - 0.2 and 0.1 tie, though the numbers differ in the last bit.
    assert statistics.wilcoxon(np.array([0.3 - 0.2, -0.1])) == 1


def test_holm_by_hand():
    found = statistics.holm([0.01, 0.04, 0.03, 0.005])
    # 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1, which may not be below the last.
    np.testing.assert_allclose(found, [0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.6, 0.7]).tolist() == [1, 1]
    assert statistics.holm([]).tolist() == []


def test_pairs_and_groups():
    draw = np.random.default_rng(0)
    clients = draw.normal(0.8, 0.1, 80)
    noise = draw.normal(0, 0.01, [4, 80])
    values = clients + noise + np.array([[0.1], [0], [0.1], [0]])
    pairs = statistics.pairs(values)
    assert [(p.first, p.second) for p in pairs] == [
        *((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)),
    ]
    first = pairs[0]
    difference = values[0] - values[1]
    assert first.difference == pytest.approx(difference.mean())
    # Clients differ by far more than arms do: only pairs show it.
    half = 1.96 * difference.std() / np.sqrt(80)
    assert first.low == pytest.approx(difference.mean() - half, abs=half / 10)
    assert first.high == pytest.approx(difference.mean() + half, abs=half / 10)
    tests = [
        scipy.stats.wilcoxon(values[p.first] - values[p.second], mode='approx').pvalue
        for p in pairs
    ]
    np.testing.assert_allclose([p.p for p in pairs], tests)
    np.testing.assert_allclose([p.adjusted for p in pairs], statistics.holm(tests))
    order = statistics.tiers(values.mean(axis=1), pairs)
    assert [set(tier) for tier in order] == [{0, 2}, {1, 3}]
    assert statistics.pairs(values[:, :0]) == statistics.pairs(values[:1]) == []


def test_a_group_has_what_its_best_is_not_told_apart_from():
    def pair(first, second, adjusted):
        return Pair(first, second, 0, 0, 0, adjusted, adjusted)

    pairs = [pair(0, 1, 0.2), pair(0, 2, 0.01), pair(1, 2, 0.3), pair(2, 3, 0.5)]
    pairs += [pair(0, 3, 0.01), pair(1, 3, 0.01)]
    assert statistics.tiers([0.9, 0.8, 0.7, 0.6], pairs) == [[0, 1], [2, 3]]
    assert statistics.tiers([0.6, 0.7], [pair(0, 1, 0.01)]) == [[1], [0]]


def test_the_worst_tenth_by_hand():
    values = np.array([[*range(20)], [*range(20, 0, -1)]])
    assert statistics.worst_tenth(values).tolist() == [0.5, 1.5]
    assert statistics.worst_tenth(np.array([3.0, 1.0, 2.0])) == 1
    assert statistics.worst_interval(values[0] + 5.0, values[0] + 0.0) == (5, 5)


def test_students_interval_is_scipys():
    found = np.array([1.0, 2.5, 3.0])
    theirs = scipy.stats.t.interval(
        0.95, 2, loc=found.mean(), scale=scipy.stats.sem(found)
    )
    assert statistics.spread_interval(found) == pytest.approx(theirs)
    assert statistics.spread_interval(found[:1]) is None

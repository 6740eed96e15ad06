import argparse

import numpy as np
import pytest
import sklearn.linear_model
import sklearn.metrics

from benchmarks import growth, speed, workloads
from benchmarks.peers import runner, tff, tff_tutorial


def test_reference_takes_the_gradient_step_of_softmax_regression():
    work = workloads.head([3], batch_size=3)
    kernel, bias = workloads.train_head(work, 1)
    # From zero weights every class has the probability 1 / 62.
    p = np.full((3, 62), 1 / 62)
    p[np.arange(3), work.y] -= 1
    np.testing.assert_allclose(kernel, -0.1 * (work.x.T @ p) / 3, rtol=1e-9)
    np.testing.assert_allclose(bias, -0.1 * p.mean(0), rtol=1e-6)


def test_reference_weighs_clients_by_examples():
    # One step from the same weights each: the weighted mean is one large step.
    together = workloads.train_head(workloads.head([12], batch_size=12), 1)
    apart = workloads.train_head(workloads.head([9, 3], batch_size=12), 1)
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_evaluation_agrees_with_scikit_learn():
    work = workloads.evaluation([20, 30])
    model = sklearn.linear_model.LogisticRegression()
    model.classes_ = np.arange(62)
    model.coef_, model.intercept_ = work.weights[0].T, work.weights[1]
    p = model.predict_proba(work.x)
    loss, accuracy = workloads.evaluate_head(work)
    expected = -np.log(p[np.arange(50), work.y].astype(np.float64)).mean()
    assert loss == pytest.approx(expected, rel=1e-4)
    assert accuracy == sklearn.metrics.accuracy_score(work.y, model.predict(work.x))


def test_skewed_sizes_keep_to_their_range():
    sizes = workloads.log_normal_sizes(1000)
    assert min(sizes) == 10 and max(sizes) == 1000
    assert np.median(sizes) == pytest.approx(100, rel=0.1)


def test_arrays_come_back_aligned(tmp_path):
    work = workloads.cnn([5, 7])
    work.save(tmp_path / 'work')
    loaded = runner.load(tmp_path / 'work')
    np.testing.assert_array_equal(loaded.x, work.x)
    assert loaded.x.ctypes.data % 64 == 0
    assert loaded.rows(1) == slice(5, 12)
    for one, other in zip(loaded.weights, work.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_difference_is_relative_to_the_largest_weight():
    reference = [np.array([1.0, -4.0]), np.array([2.0])]
    weights = [np.array([1.0, -4.0]), np.array([2.4])]
    assert speed.difference(weights, reference) == pytest.approx(0.1)


def test_median_leaves_the_first_round_out():
    assert speed.median({'seconds': [100.0, 1.0, 2.0, 4.0]}) == 2.0


def test_growth_finds_the_line():
    records = [
        {'clients': n, 'seconds': [9.0, 0.5 + 0.01 * n]} for n in (10, 100, 1000)
    ]
    fixed, slope = growth.line(records, 'clients')
    assert fixed == pytest.approx(0.5) and slope == pytest.approx(0.01)


def test_what_is_not_installed_is_said(tmp_path):
    missing = speed.Runner('missing', (str(tmp_path / 'python'),))
    record = speed.run(missing, tmp_path, 2, tmp_path, 1)
    assert 'scripts/peers.sh' in record['error']


@pytest.mark.slow
def test_forms_of_client_data_train_alike():
    """Lists of data sets, in memory and in SQLite, give the weights of the arrays."""
    head = workloads.head([7, 5], batch_size=3)
    weights = {}
    for form in ('cohort', 'datasets', 'new_datasets'):
        options = argparse.Namespace(
            runtime='compiled', aggregator='mean', data=form, rounds=2
        )
        weights[form] = tff.train(head, options).weights
    exact = workloads.train_head(head, 2)
    for found in weights.values():
        assert speed.difference(found, exact) < 1e-6
    images = workloads.tutorial([7, 5], batch_size=3)
    memory, sqlite = (
        tff_tutorial.train(
            images,
            argparse.Namespace(runtime='compiled', source=source, anew=True, rounds=2),
        ).weights
        for source in ('memory', 'sqlite')
    )
    assert np.abs(memory[0]).max() > 1e-3
    assert speed.difference(sqlite, memory) < 1e-6

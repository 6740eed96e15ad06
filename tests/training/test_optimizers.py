"""Optimizers by name, after one step by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer.training import optimizers
from tff_transfer.training.optimizers_config import OPTIMIZERS


def _step(optimizer, steps=1):
    weight, gradient = tf.constant([1.0]), tf.constant([0.5])
    state = optimizer.initialize(tf.TensorSpec([1]))
    for _ in range(steps):
        state, weight = optimizer.next(state, weight, gradient)
    return float(weight[0])


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_every_name_is_an_optimizer_that_goes_downhill(name):
    assert _step(optimizers.build(name, 0.1)) < 1


def test_sgd_with_momentum():
    # v1 = 0.5, v2 = 0.9 v1 + 0.5 = 0.95
    found = _step(optimizers.build('sgd', 0.1, momentum=0.9), steps=2)
    assert found == pytest.approx(1 - 0.1 * 0.5 - 0.1 * 0.95)


def test_epsilon_limits_adam():
    # m / (sqrt(v) + epsilon) with corrected m = 0.5 and sqrt(v) = 0.5
    for epsilon in (1e-4, 0.5):
        found = _step(optimizers.build('adam', 0.1, epsilon=epsilon))
        # TFF adds epsilon before the bias correction of v: sqrt(0.001) * epsilon'
        step = 0.1 * np.sqrt(1 - 0.999) / (1 - 0.9)
        expected = 1 - step * 0.05 / (np.sqrt(0.001 * 0.25) + epsilon)
        assert found == pytest.approx(expected, rel=1e-5)


def test_adafactor_is_that_of_its_paper():
    # Shazeer & Stern 2018, algorithms 4 (matrices) and 5 (vectors), with the step size
    # min(learning rate, 1 / sqrt(step)), in NumPy.
    draw = np.random.default_rng(0)
    weights = [draw.normal(size=(3, 2)), draw.normal(size=2)]
    optimizer = optimizers.build('adafactor', 0.1)
    found = tuple(tf.constant(w, tf.float32) for w in weights)
    state = optimizer.initialize([tf.TensorSpec(w.shape) for w in weights])
    rows, columns, squares = np.zeros(3), np.zeros(2), np.zeros(2)

    def rms(values):
        return np.sqrt(np.mean(values**2))

    for step in (1, 2, 3):
        gradients = [draw.normal(size=w.shape) for w in weights]
        beta = 1 - step**-0.8
        squared = [g**2 + 1e-30 for g in gradients]
        rows = beta * rows + (1 - beta) * squared[0].mean(1)
        columns = beta * columns + (1 - beta) * squared[0].mean(0)
        squares = beta * squares + (1 - beta) * squared[1]
        moments = [np.outer(rows, columns) / rows.mean(), squares]
        for i, (gradient, moment) in enumerate(zip(gradients, moments, strict=True)):
            update = gradient / np.sqrt(moment)
            update /= max(1, rms(update))
            size = max(1e-3, rms(weights[i])) * min(0.1, step**-0.5)
            weights[i] = weights[i] - size * update
        given = tuple(tf.constant(g, tf.float32) for g in gradients)
        state, found = optimizer.next(state, found, given)
        for ours, expected in zip(found, weights, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-4)


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_a_step_keeps_the_types_of_the_state(name):
    optimizer = optimizers.build(name, 0.1)
    weights = (tf.ones([3, 2]), tf.ones([2]))
    state = optimizer.initialize((tf.TensorSpec([3, 2]), tf.TensorSpec([2])))

    def types(state):
        return [(t.dtype, t.shape) for t in map(tf.constant, tf.nest.flatten(state))]

    after, _ = optimizer.next(state, weights, weights)
    assert types(after) == types(state)

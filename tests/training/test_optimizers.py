"""Optimizers by name, after one step by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer.training import optimizers
from tff_transfer.training.config import OPTIMIZERS


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

"""Clients' quadratics pull apart: where SCAFFOLD converges and federated averaging
stalls, as Karimireddy et al. 2020, theorems II and III."""

import collections
import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import models, runtime
from tff_transfer.algorithms import compose, registry
from tff_transfer.algorithms.method import Context
from tff_transfer.data.cohorts import Cohort

# Each client's loss is curvature / 2 (w - minimum)^2.
CURVATURE, MINIMUM = np.array([4.0, 1.0, 0.5]), np.array([-1.0, 2.0, 5.0])
OPTIMUM = (CURVATURE @ MINIMUM) / CURVATURE.sum()
RATE, STEPS = 0.1, 10


def model():
    @tf.function(autograph=False)
    def predict(weights, x, training):
        del training
        return tf.sqrt(x[:, :1]) * (weights[0][0] - x[:, 1:])

    task = models.Task(
        ('loss',), lambda r, _: {'loss': r[:, 0] ** 2 / 2}, 'loss', False, '.3g'
    )
    functional = models.functional_model(
        [np.zeros(1, np.float32)], predict, tf.TensorSpec([None, 2]), task=task
    )
    return dataclasses.replace(models.mlp((2,), 1), functional=functional)


def distances(name, rounds):
    sgd = tff.learning.optimizers.build_sgdm
    context = Context(model(), sgd(RATE), sgd(1.0), population=3, weighting='uniform')
    composed = compose.compose(registry.options(name)().build(context), context)
    rows = np.repeat(np.stack([CURVATURE, MINIMUM], axis=1), STEPS, axis=0)
    examples = collections.OrderedDict(
        x=rows.astype(np.float32), y=np.zeros(len(rows), np.int32)
    )
    cohort = Cohort(examples, STEPS * np.arange(4), 1)
    found = []
    with runtime.use_compiled():
        state, kept = composed.process.initialize(), [composed.kept] * 3
        for _ in range(rounds):
            if composed.kept is None:
                state = composed.process.next(state, cohort).state
            else:
                state, _, kept = composed.process.next(state, cohort, kept)
            found.append(abs(float(state.server.weights[0][0]) - OPTIMUM))
    return found


def test_federated_averaging_stalls_where_its_fixed_point_is():
    # After STEPS steps a client is at its minimum plus (1 - rate h)^STEPS of the way.
    left = (1 - RATE * CURVATURE) ** STEPS
    fixed = np.sum((1 - left) * MINIMUM) / np.sum(1 - left)
    assert abs(fixed - OPTIMUM) > 0.5
    np.testing.assert_allclose(
        distances('fedavg', 20)[-1], abs(fixed - OPTIMUM), rtol=1e-4
    )


@pytest.mark.slow
def test_scaffold_converges_to_the_optimum():
    found = distances('scaffold', 150)
    assert found[-1] < 1e-5
    assert found[20] < found[10] < found[5]

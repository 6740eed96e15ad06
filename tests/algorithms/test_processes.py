"""A method as a TFF process in one call."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import test_methods

import tff_transfer as tt
from tff_transfer import runtime
from tff_transfer.algorithms import compose
from tff_transfer.errors import UserError

R = test_methods.R


def network():
    made = tf.keras.Sequential(
        [tf.keras.Input((R.FEATURES,)), tf.keras.layers.Dense(R.CLASSES)]
    )
    kernel, bias = np.split(test_methods.START, [R.FEATURES * R.CLASSES])
    made.set_weights([kernel.reshape(R.FEATURES, R.CLASSES), bias])
    return made


def functional():
    x = tf.TensorSpec([None, R.FEATURES])
    return tff.learning.models.functional_model_from_keras(
        network(),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        collections.OrderedDict(x=x, y=tf.TensorSpec([None], tf.int32)),
    )


@pytest.mark.parametrize('mu', [-1, 'x', None])
def test_options_of_a_method_are_checked(mu):
    with pytest.raises(UserError, match=f'^--fedprox.mu is {mu!r}, but must be'):
        tt.algorithms.process(tt.algorithms.FedProx(mu=mu), network())


@pytest.mark.parametrize('make', [network, functional])
def test_models_of_keras_and_of_tff(make):
    made = tt.algorithms.process(
        tt.algorithms.FedRS(alpha=0.5),
        make(),
        client_optimizer=tff.learning.optimizers.build_sgdm(R.RATE),
    )
    assert isinstance(made.process, tff.learning.templates.LearningProcess)
    with runtime.use_compiled():
        state = made.process.initialize()
        for clients in test_methods.ROUNDS:
            state = made.process.next(state, test_methods.cohort(clients)).state
        weights = made.process.get_model_weights(state).trainable
    _, _, reference = test_methods.CASES['fedrs']
    expected = reference(test_methods.reference_rounds())
    found = test_methods.flat(weights)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize('name', ['FedAdam', 'FedExP'])
def test_weights_that_are_given_are_started_from(name):
    made = tt.algorithms.process(getattr(tt.algorithms, name)(), network())
    with runtime.use_compiled():
        state = made.process.initialize()
        weights = made.process.get_model_weights(state)
        doubled = tff.learning.models.ModelWeights(
            [2 * w for w in weights.trainable], weights.non_trainable
        )
        state = made.process.set_model_weights(state, doubled)
        found = made.process.get_model_weights(state).trainable
    for ours, before in zip(found, weights.trainable, strict=True):
        np.testing.assert_array_equal(ours, 2 * before)


def test_who_asks_for_the_population_is_given_it():
    with pytest.raises(tt.UserError, match='Scaffold needs population='):
        tt.algorithms.process(tt.algorithms.Scaffold(), network())


def test_who_asks_for_public_examples_is_given_them():
    with pytest.raises(tt.UserError, match='FedDF needs public='):
        tt.algorithms.process(tt.algorithms.FedDF(), network())


def test_bytes_are_those_of_the_types():
    parameters = 4 * R.SIZE
    of = {
        name: tt.algorithms.process(
            getattr(tt.algorithms, name)(), network(), population=5
        )
        for name in ('FedAvg', 'Scaffold', 'Mime', 'FedNova', 'Local')
    }
    # Besides weights: how many examples; FedNova's two sums; Mime's momentum-free
    # optimizer has its learning rate alone as its state.
    expected = {
        'FedAvg': (parameters, parameters + 4),
        'Scaffold': (2 * parameters, 2 * parameters + 4),
        'FedNova': (parameters, parameters + 4 + 8),
        'Mime': (2 * parameters + 4, 2 * (parameters + 4)),
        'Local': (0, 0),
    }
    for name, made in of.items():
        assert (made.bytes_down, made.bytes_up) == expected[name], name


def test_what_method_and_aggregation_measure_has_names():
    clipped = tff.aggregators.clipping_factory(100.0, tff.aggregators.MeanFactory())
    made = tt.algorithms.process(
        tt.algorithms.FedExP(epsilon=1e-3),
        network(),
        client_optimizer=tff.learning.optimizers.build_sgdm(R.RATE),
        weighting='uniform',
        aggregator=clipped,
    )
    names = {
        'server/step_size',
        'aggregator/clipping_norm',
        'aggregator/clipped_count',
    }
    assert set(made.measured) == names
    clients = test_methods.ROUNDS[0]
    with runtime.use_compiled():
        output = made.process.next(
            made.process.initialize(), test_methods.cohort(clients)
        )
    found = compose.measurements(output.metrics)
    start = test_methods.W
    batches = test_methods.reference_rounds()[0].values()
    deltas = np.array([start - R.sgd(start, of_client) for of_client in batches])
    mean = deltas.mean(axis=0)
    step_size = np.sum(deltas**2) / (2 * len(deltas) * (mean @ mean + 1e-3))
    assert step_size > 1
    assert set(found) == names
    assert found['server/step_size'] == pytest.approx(step_size, rel=1e-4)
    assert found['aggregator/clipping_norm'] == 100
    assert found['aggregator/clipped_count'] == 0


def test_most_methods_measure_nothing():
    assert tt.algorithms.process(tt.algorithms.FedAvg(), network()).measured == ()

"""The conditional variational autoencoder, by hand and beside a plain loop."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tff_transfer as tt
from tff_transfer import runtime
from tff_transfer.data.cohorts import training_cohort
from tff_transfer.data.federated import FederatedData
from tff_transfer.models.generative.architecture import Transfer, build
from tff_transfer.models.generative.cvae import CVAE

SHAPE, CLASSES, SEED, LATENT = (7, 6, 1), 3, 5, 4
MADE = CVAE(latent_size=LATENT)


def make_data(clients=2, train=5):
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (clients * train, *SHAPE)).astype(np.uint8)
    y = draw.integers(0, CLASSES, len(x)).astype(np.int32)
    names = tuple(f'client {i}' for i in range(clients))
    sizes = np.full(clients, train), np.zeros(clients, np.int64)
    return FederatedData('noise', x, y, names, *sizes, CLASSES)


@pytest.fixture(scope='module')
def model():
    return build(MADE, SHAPE, CLASSES, SEED, np.uint8)


def normal(seed, count):
    return tf.random.stateless_normal([count, LATENT], seed)


def test_the_terms_are_those_of_the_evidence_lower_bound(model):
    data = make_data()
    images, labels = data.x / 255, np.eye(CLASSES, dtype=np.float32)[data.y]
    parts = MADE.networks(SHAPE, CLASSES, SEED)
    found = np.float64(parts['encoder']([images, labels]))
    mean, log_variance = found[:, :LATENT], found[:, LATENT:]
    # In evaluation the keys are zeros.
    codes = mean + np.exp(log_variance / 2) * normal([0, 0], len(images))
    logits = np.float64(parts['decoder']([codes, labels]))
    ones = 1 / (1 + np.exp(-logits))
    likelihood = images * np.log(ones) + (1 - images) * np.log(1 - ones)
    # Between normal distributions: log s2/s1 + (s1^2 + (m1 - m2)^2) / 2 s2^2 - 1/2.
    deviation = np.exp(log_variance / 2)
    apart = np.log(1 / deviation) + (deviation**2 + mean**2) / 2 - 1 / 2

    outputs = model.logits(model.initial_weights, data.x, data.y)
    measured = model.task.examples(outputs, data.y)
    assert list(measured) == ['loss', 'reconstruction', 'divergence']
    expected = -likelihood.sum(axis=(1, 2, 3))
    np.testing.assert_allclose(measured['reconstruction'], expected, rtol=1e-5)
    np.testing.assert_allclose(measured['divergence'], apart.sum(axis=1), rtol=1e-4)
    expected = expected + apart.sum(axis=1)
    np.testing.assert_allclose(measured['loss'], expected, rtol=1e-5)


@pytest.mark.slow
def test_a_client_trains_as_a_plain_loop_does(model):
    data, rate = make_data(clients=1), 0.01
    draws = {'seed': 3, 'round_number': 1}
    cohort = training_cohort(
        data, [0], batch_size=2, epochs=2, keys=True, labels=True, **draws
    )
    made = tt.algorithms.process(
        tt.algorithms.FedAvg(),
        model,
        client_optimizer=tff.learning.optimizers.build_sgdm(rate),
    )
    with runtime.use_compiled():
        state = made.process.next(made.process.initialize(), cohort).state
        found = made.process.get_model_weights(state).trainable

    parts = MADE.networks(SHAPE, CLASSES, SEED)
    weights = [
        *parts['encoder'].trainable_variables,
        *parts['decoder'].trainable_variables,
    ]
    rows = cohort.examples
    for start in range(0, 10, 2):
        batch = slice(start, start + 2)
        images = tf.constant(rows['x']['inputs'][batch] / 255, tf.float32)
        labels = tf.one_hot(rows['y'][batch], CLASSES)
        key = rows['x']['key'][start]
        with tf.GradientTape() as tape:
            mean, log_variance = tf.split(parts['encoder']([images, labels]), 2, 1)
            deviation = tf.sqrt(tf.exp(log_variance))
            codes = mean + deviation * normal(key, 2)
            ones = tf.sigmoid(parts['decoder']([codes, labels]))
            bernoulli = images * tf.math.log(ones) + (1 - images) * tf.math.log1p(-ones)
            apart = (deviation**2 + mean**2 - log_variance - 1) / 2
            loss = (tf.reduce_sum(apart) - tf.reduce_sum(bernoulli)) / 2
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(rate * gradient)
    before = model.initial_weights
    assert len(found) == len(before) == 16
    for ours, theirs, start in zip(found, weights, before, strict=True):
        moved = np.abs(theirs - start).max()
        assert moved > 1e-5
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * moved)


def test_images_are_drawn_by_the_key_alone(model):
    labels = tf.constant([2, 0, 1, 1])
    weights = [w + 0.1 for w in model.initial_weights]
    images = model.generate(weights, labels, [7, 8])
    parts = MADE.networks(SHAPE, CLASSES, SEED)
    parts['decoder'].set_weights(weights[-8:])
    codes = normal([7, 8], 4)
    expected = tf.sigmoid(parts['decoder']([codes, tf.one_hot(labels, CLASSES)]))
    np.testing.assert_allclose(images, expected, rtol=1e-5, atol=1e-6)
    assert images.shape == (4, *SHAPE)
    again = model.generate(weights, labels, [7, 8])
    np.testing.assert_array_equal(images, again)
    assert np.abs(images - model.generate(weights, labels, [7, 9])).max() > 1e-3


def test_parts_are_all_the_weights(model):
    assert {name: sorted(numbers) for name, numbers in model.parts.items()} == {
        'encoder': [*range(8)],
        'decoder': [*range(8, 16)],
    }


def test_a_teacher_is_as_far_as_its_decoder_draws_otherwise():
    networks = MADE.networks(SHAPE, CLASSES, SEED)
    draw = np.random.default_rng(2)
    start = {
        name: [draw.normal(0, 0.2, w.shape) for w in network.get_weights()]
        for name, network in networks.items()
    }
    transfer = Transfer(start, distill_weight=3.0)
    made = build(MADE, SHAPE, CLASSES, SEED, np.uint8, transfer)
    weights, data = made.initial_weights, make_data()
    for ours, theirs in zip(
        weights, [*start['encoder'], *start['decoder']], strict=True
    ):
        np.testing.assert_array_equal(ours, np.float32(theirs))

    def measured(weights):
        return made.task.examples(made.logits(weights, data.x, data.y), data.y)

    np.testing.assert_array_equal(measured(weights)['distillation'], 0)
    moved = [w + 0.1 for w in weights]
    found = measured(moved)
    codes, labels = normal([0, 1], len(data.y)), np.eye(CLASSES)[data.y]
    pixels = []
    for of in (weights, moved):
        networks['decoder'].set_weights(of[8:])
        logits = np.float64(networks['decoder']([codes, labels]))
        pixels.append(1 / (1 + np.exp(-logits)))
    expected = np.sum((pixels[1] - pixels[0]) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(found['distillation'], expected, rtol=1e-4)
    terms = found['reconstruction'] + found['divergence'] + 3 * found['distillation']
    np.testing.assert_allclose(found['loss'], terms, rtol=1e-6)

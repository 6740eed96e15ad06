"""The pieces of `benchmarks.frozen`, with a small network."""

import argparse
import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import frozen_tables, speed, workloads
from benchmarks.peers import frozen_head, frozen_top, tff_models

SIZE, FEATURES = 12, 5


@pytest.fixture(scope='module')
def handle(tmp_path_factory):
    """A SavedModel in TF-Hub's form: two convolutions with BatchNorm, pooled."""
    tf.keras.utils.set_random_seed(1)
    images = tf.keras.Input((SIZE, SIZE, 3))
    kernels = {'use_bias': False, 'kernel_initializer': 'random_normal'}
    x = tf.keras.layers.Conv2D(4, 3, padding='same', **kernels)(images)
    x = tf.keras.layers.BatchNormalization()(20 * x)
    x = tf.keras.layers.Conv2D(FEATURES, 1, **kernels)(tf.nn.relu(20 * x))
    network = tf.keras.Model(images, tf.keras.layers.GlobalAveragePooling2D()(x))

    @tf.function
    def features(inputs, training=False):
        return network(inputs, training=training)

    for training in (False, True):
        spec = tf.TensorSpec((None, SIZE, SIZE, 3), name='inputs')
        features.get_concrete_function(spec, training=training)
    module = tf.train.Checkpoint(
        variables=network.variables,
        trainable_variables=network.trainable_variables,
        regularization_losses=[],
    )
    module.__call__ = features
    path = str(tmp_path_factory.mktemp('backbone') / 'small')
    tf.saved_model.save(module, path)
    return path


def work():
    small = workloads.images([5, 4, 6], batch_size=2)
    return dataclasses.replace(small, learning_rate=0.5)


def options(handle, **others):
    return argparse.Namespace(backbone=handle, rounds=2, **others)


def test_images_have_seeded_pixels_and_ten_classes():
    made = workloads.images([300, 20])
    assert made.x.dtype == np.uint8 and made.x.shape == (320, 28, 28, 1)
    assert set(made.y) == set(range(10)) and made.x.std() > 20
    np.testing.assert_array_equal(made.x, workloads.images([300, 20]).x)


@pytest.mark.slow
def test_head_is_that_of_the_tutorial(handle):
    ours, stock = (
        frozen_head.train(work(), options(handle, runtime=runtime, clients_per_round=2))
        for runtime in ('compiled', 'stock')
    )
    # What comes before, and two rounds.
    assert len(ours.seconds) == len(stock.seconds) == 3
    kernels, biases = ours.weights
    assert kernels.shape == (2, FEATURES, 10) and biases.shape == (2, 10)
    assert np.abs(np.diff(kernels, axis=0)).max() > 1e-2
    assert speed.difference(stock.weights, ours.weights) < 1e-5


@pytest.mark.slow
def test_top_is_the_same_on_activations(handle):
    cached, whole = (
        frozen_top.train(work(), options(handle, inputs=inputs, top_layers=1))
        for inputs in ('activations', 'images')
    )
    assert [w.shape for w in whole.weights] == [(1, 1, 4, 5), (5, 10), (10,)]
    network = tff_models.backbone(handle).functional
    (start,) = (w.value for w in network.weights if w.value.shape == (1, 1, 4, 5))
    assert np.abs(whole.weights[0] - start).max() > 1e-2
    assert speed.difference(cached.weights, whole.weights) < 1e-5
    assert 'extracted' in cached.settings


def test_operations_are_counted(handle):
    backbone = tff_models.backbone(handle)
    below, above = frozen_top.forward_operations(backbone, 1, (28, 28, 1))
    pixels = SIZE * SIZE
    convolutions = 2 * pixels * 3 * 3 * 3 * 4, 2 * pixels * 4 * FEATURES
    # Scaling pixels; sums in pooling, and the head's products and biases.
    assert convolutions[0] <= below <= convolutions[0] + 4 * 28 * 28
    head = 2 * FEATURES * 10
    assert convolutions[1] + head <= above <= convolutions[1] + head + 6 * pixels


def test_prediction_counts_a_backward_pass_twice():
    # 60 and 3 * 10 for raw images, 3 * 10 with the cache.
    assert frozen_tables.predicted((60, 10)) == 3.0


def test_rounds_not_done_count_as_the_median():
    record = {'rounds': 6, 'seconds': [10.0, 5.0, 1.0, 2.0, 9.0]}
    assert frozen_tables.whole_time(record) == 10 + 5 + 1 + 2 + 9 + 2 * 2


def test_page_says_what_was_scaled_and_what_failed():
    ours = {
        'name': frozen_tables.OURS,
        'population': 10,
        'rounds': 4,
        'seconds': [1.0, 0.5, 0.25, 0.25, 0.5],
        'load_before': 0.0,
    }
    runs = [{**ours, 'seconds': [s, *ours['seconds'][1:]]} for s in (3.0, 1.0, 0.5)]
    stock = {**ours, 'name': frozen_tables.STOCK, 'seconds': [20.0, 30.0, 25.0]}
    first, second = frozen_tables.head_table(
        [
            frozen_tables.median_run(runs),
            {**frozen_tables.median_run([stock]), 'difference': 2e-6},
        ]
    )[2:]
    assert first == (
        '| 10 | features once, compiled | 2.50 (2.00 to 4.50) | 1.0 | 1.00 | 0.50 |'
        ' 0.2500 | 1 |  | 0.0 |'
    )
    assert 'error' in frozen_tables.median_run([ours, {**ours, 'error': 'exit 1'}])
    assert '| 125.00 (from 2 of 4 rounds) | 50.0 |' in second and '2e-06' in second
    top = {'name': frozen_tables.WHOLE, 'top_layers': 2, 'error': 'exit 1'}
    lines = frozen_tables.top_table([{**top, 'name': frozen_tables.CACHED}, top])
    assert all('exit 1' in line for line in lines[2:])

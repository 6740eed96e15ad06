"""Images of a model that draws noise about a place by class, its only weight."""

import types

import numpy as np
import tensorflow as tf

from tff_transfer.generation.sampling import BATCH, Sampler, grid_labels


def generate(weights, labels, key):
    noise = tf.random.stateless_uniform([tf.shape(labels)[0], 2, 3, 1], key)
    places = tf.gather(weights[0], labels)[:, None, None, None]
    return tf.clip_by_value(places + noise / 100, 0, 1)


MODEL = types.SimpleNamespace(
    generate=generate, initial_weights=[np.zeros(3, np.float32)]
)
WEIGHTS = [np.array([0.1, 0.5, 0.9])]


def test_each_label_has_its_image_whatever_the_batches():
    sampler, labels = Sampler(MODEL), np.arange(2 * BATCH + 3) % 3
    found = sampler.images(WEIGHTS, labels, 0)
    assert found.shape == (len(labels), 2, 3, 1)
    apart = found - WEIGHTS[0][labels][:, None, None, None]
    assert (apart > -1e-6).all()
    assert (apart < 0.01 + 1e-6).all()
    assert len(np.unique(found.reshape(len(found), -1), axis=0)) == len(found)
    assert sampler.images(WEIGHTS, labels[:0], 0).shape == (0, 2, 3, 1)


def test_images_are_a_function_of_the_seed():
    sampler, labels = Sampler(MODEL), np.arange(5) % 3
    first = sampler.images(WEIGHTS, labels, 1)
    np.testing.assert_array_equal(first, Sampler(MODEL).images(WEIGHTS, labels, 1))
    assert (first != sampler.images(WEIGHTS, labels, 2)).all()
    # More of them leave the first as they are.
    more = sampler.images(WEIGHTS, np.arange(BATCH + 5) % 3, 1)
    np.testing.assert_array_equal(more[:5], first)


def test_a_grid_has_a_row_for_each_of_the_first_classes():
    np.testing.assert_array_equal(grid_labels(3, 2), [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(np.unique(grid_labels(62, 4)), np.arange(10))

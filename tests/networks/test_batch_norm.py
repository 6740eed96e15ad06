"""BatchNorm inside networks: what it measures and how that is pooled, by NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer.errors import UserError
from tff_transfer.networks import batch_norm, tracing

DRAW = np.random.default_rng(0)


def network(*, momentum=0.9, fused=True):
    """BatchNorm inside a nested model, and one after a dense layer."""
    layer = tf.keras.layers.BatchNormalization
    inner = tf.keras.Sequential(
        [layer(momentum=momentum, fused=fused, input_shape=(4, 4, 2))], name='inner'
    )
    images = tf.keras.Input((4, 4, 2))
    x = tf.keras.layers.GlobalAveragePooling2D()(inner(images))
    x = tf.keras.layers.Dense(3)(x)
    made = tf.keras.Model(images, layer(momentum=momentum)(x))
    for weight in made.weights:
        value = DRAW.normal(size=weight.shape)
        weight.assign(np.abs(value) + 0.5 if 'variance' in weight.name else value)
    return made


def find(made, size=(4, 4, 2)):
    spec = tf.TensorSpec([None, *size])
    return batch_norm.find(tracing.trace(made, spec, training=True))


@pytest.mark.parametrize('fused', [True, False])
def test_a_batch_is_measured_whatever_the_statistics_are(fused):
    made = network(fused=fused)
    found = find(made)
    assert found.momenta == (0.9,) * 4
    names = [found.network.weights[place].name for place in found.places]
    assert [name.split('/')[-1] for name in names] == [
        'moving_mean:0',
        'moving_mean:0',
        'moving_variance:0',
        'moving_variance:0',
    ]
    assert len(found.scales) == 4
    x = DRAW.normal(2, 3, size=(5, 4, 4, 2)).astype(np.float32)
    values = [tf.constant(w.value) for w in found.network.weights]
    output, statistics = tf.function(found.inline_step)(values, x)
    np.testing.assert_allclose(statistics[0], x.mean(axis=(0, 1, 2)), rtol=1e-5)
    # TensorFlow's fused kernel alone corrects for what the mean takes (Bessel).
    variance = x.var(axis=(0, 1, 2)) * (80 / 79 if fused else 1)
    np.testing.assert_allclose(statistics[2], variance, rtol=1e-4)
    np.testing.assert_allclose(output, made(x, training=True), rtol=1e-4, atol=1e-5)


def test_pooled_moments_are_those_of_all_examples():
    parts = [DRAW.normal(5 * i, 1 + i, size=(30, 4)) for i in range(3)]
    statistics = [(part.mean(axis=0), part.var(axis=0)) for part in parts]
    origin = (np.full(4, 4.0), np.ones(4))
    moments = [batch_norm.moments(each, origin) for each in statistics]
    averaged = [np.mean(each, axis=0) for each in zip(*moments, strict=True)]
    mean, variance = batch_norm.from_moments(averaged, origin)
    whole = np.concatenate(parts)
    np.testing.assert_allclose(mean, whole.mean(axis=0))
    np.testing.assert_allclose(variance, whole.var(axis=0))


def dense(*layers):
    return tf.keras.Sequential([tf.keras.layers.Dense(3, input_shape=(2,)), *layers])


class Counting(tf.keras.layers.Layer):
    """Keeps a number of its own besides."""

    def build(self, shape):
        self.steps = self.add_weight('steps', (), trainable=False)

    def call(self, x):
        self.steps.assign_add(1.0)
        return x + 0 * self.steps


class Clipped(tf.keras.layers.Layer):
    """Normalises by its statistics while it moves them, as batch renormalisation."""

    def build(self, shape):
        self.moving_mean = self.add_weight('moving_mean', (3,), trainable=False)
        self.moving_variance = self.add_weight('moving_variance', (3,), trainable=False)

    def call(self, x):
        output = x - self.moving_mean
        self.moving_mean.assign(0.9 * self.moving_mean + 0.1 * tf.reduce_mean(x, 0))
        self.moving_variance.assign(0.9 * self.moving_variance)
        return output


@pytest.mark.parametrize(
    ('layers', 'part'),
    [
        (lambda: [], 'has no BatchNorm'),
        (
            lambda: [tf.keras.layers.BatchNormalization(), Counting()],
            'is no BatchNorm statist',
        ),
        (
            lambda: [
                tf.keras.layers.BatchNormalization(),
                tf.keras.layers.Dropout(0.5),
            ],
            'draws random numbers',
        ),
        (lambda: [Clipped()], 'in another way'),
    ],
)
def test_what_is_no_plain_batch_norm_is_refused(layers, part):
    with pytest.raises(UserError, match=part):
        find(dense(*layers()), (2,))


def test_a_layer_that_is_used_twice_is_refused():
    inputs = tf.keras.Input((2,))
    layer = tf.keras.layers.BatchNormalization()
    made = tf.keras.Model(inputs, layer(layer(inputs)))
    with pytest.raises(UserError, match='more than once'):
        find(made, (2,))

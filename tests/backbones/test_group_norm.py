"""Group normalization in place of BatchNorm, against normalising by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer import backbones
from tff_transfer.backbones import group_norm
from tff_transfer.errors import UserError

DRAW = np.random.default_rng(0)


@pytest.mark.parametrize(
    ('channels', 'groups'), [(8, 1), (16, 1), (24, 1), (56, 2), (64, 4), (512, 32)]
)
def test_groups_have_sixteen_channels_or_a_few_more(channels, groups):
    assert group_norm.groups(channels) == groups


def network():
    """BatchNorm at the end of a nested model, with scale and shift of its own."""
    inner = tf.keras.Sequential(
        [tf.keras.layers.BatchNormalization(epsilon=1e-3, input_shape=(4, 4, 32))]
    )
    images = tf.keras.Input((4, 4, 3))
    x = inner(tf.keras.layers.Conv2D(32, 1)(images))
    made = tf.keras.Model(images, tf.keras.layers.Flatten()(x))
    for weight in made.weights:
        weight.assign(DRAW.random(weight.shape) + 0.5)
    return made


def test_each_image_is_normalised_by_groups_with_the_same_scales():
    keras = network()
    made = group_norm.replaced(backbone := backbones.load(keras))
    x = DRAW.random((2, 4, 4, 3)).astype(np.float32)
    kernel, bias, gamma, beta, *_ = keras.get_weights()
    hidden = (x @ kernel[0, 0] + bias).reshape(2, 16, 2, 16)
    mean = hidden.mean(axis=(1, 3), keepdims=True)
    variance = hidden.var(axis=(1, 3), keepdims=True)
    normal = ((hidden - mean) / np.sqrt(variance + 1e-3)).reshape(2, 16, 32)
    expected = (normal * gamma + beta).reshape(2, -1)
    np.testing.assert_allclose(made(x), expected, rtol=1e-3, atol=1e-4)
    assert made.fingerprint != backbone.fingerprint
    # The first one is as it was.
    assert any(
        isinstance(part, tf.keras.layers.BatchNormalization)
        for part in backbone.keras_model.submodules
    )


def test_what_cannot_be_replaced_is_said():
    plain = tf.keras.Sequential([tf.keras.layers.Flatten(input_shape=(4, 4, 3))])
    with pytest.raises(UserError, match='has no BatchNorm'):
        group_norm.replaced(backbones.load(plain))
    with pytest.raises(UserError, match='is a SavedModel'):
        group_norm.replaced(backbones.load('embedded'))

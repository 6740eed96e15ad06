"""ResNet-18 against the numbers of its paper and its layers by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer import backbones
from tff_transfer.backbones import resnet
from tff_transfer.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3)).astype(np.uint8)


@pytest.mark.parametrize('normalisation', ['batch', 'group'])
def test_weights_are_those_of_resnet_18(normalisation):
    network = resnet.build((224, 224), normalisation)
    # torchvision's resnet18 has 11,689,512 with its head of 512 x 1000 + 1000; both
    # normalisations have a scale and a shift for each channel.
    trainable = sum(np.prod(w.shape) for w in network.trainable_weights)
    assert trainable == 11_689_512 - 513_000
    statistics = sum(np.prod(w.shape) for w in network.non_trainable_weights)
    assert statistics == (9_600 if normalisation == 'batch' else 0)
    shapes = {layer.name: layer.output_shape[1:] for layer in network.layers}
    assert shapes['stage1_block2_out'] == (56, 56, 64)
    assert shapes['stage4_block2_out'] == (7, 7, 512)
    assert network.output_shape == (None, 512)


def test_group_normalisation_does_not_mix_examples():
    network = resnet.build((32, 32), 'group')
    x = np.random.default_rng(0).random((4, 32, 32, 3)).astype(np.float32)
    together = network(x, training=True)
    alone = network(x[:1], training=True)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_a_block_by_hand():
    network = resnet.build((64, 64), 'group')
    names = ['stage1_block1_out', 'stage1_block2_out']
    x = np.random.default_rng(0).random((2, 64, 64, 3)).astype(np.float32)
    outputs = [network.get_layer(name).output for name in names]
    before, after = tf.keras.Model(network.input, outputs)(x)
    y = before
    for number in (1, 2):
        kernel = network.get_layer(f'stage1_block2_{number}_conv').kernel
        y = tf.nn.conv2d(y, kernel, 1, 'SAME').numpy()
        groups = y.reshape(2, 16, 16, 4, 16)
        mean = groups.mean((1, 2, 4), keepdims=True)
        variance = groups.var((1, 2, 4), keepdims=True)
        y = ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(y.shape)
        y = np.maximum(y, 0) if number == 1 else y
    expected = np.maximum(before + y, 0)
    np.testing.assert_allclose(after, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_as_a_backbone_by_name(tmp_path):
    first, again, other = (
        backbones.load('ResNet18', weights='random', image_size=32, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first.feature_size == 512 and first.value_range == (0.0, 1.0)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    features = first(IMAGES).numpy()
    assert features.shape == (3, 512) and np.isfinite(features).all()
    expected = first.keras_model(first.preprocess(IMAGES), training=False)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    first.keras_model.save_weights(str(tmp_path / 'w.h5'))
    loaded = backbones.load('ResNet18', weights=str(tmp_path / 'w.h5'), image_size=32)
    np.testing.assert_array_equal(loaded(IMAGES), features)
    saved = tmp_path / 'saved'
    tf.saved_model.save(first.keras_model, str(saved))
    np.testing.assert_allclose(
        backbones.load(saved, image_size=32)(IMAGES), features, rtol=1e-5, atol=1e-6
    )
    with pytest.raises(UserError, match='does not fit'):
        backbones.load(
            'ResNet18GroupNorm', weights=str(tmp_path / 'w.h5'), image_size=32
        )

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer import backbones
from tff_transfer.backbones import pretraining
from tff_transfer.data import synthetic_writers


def test_writers_examples_are_shuffled_pictures_of_draw_writer():
    x, y = pretraining.writers_examples(5, first=2, count=3)
    per_writer = 3 * 10 + 52
    assert x.shape == (3 * per_writer, 28, 28, 1)
    counts = np.bincount(y, minlength=62)
    assert counts.tolist() == [9] * 10 + [3] * 52
    labels = pretraining.LABELS_OF_WRITER
    drawn = synthetic_writers.draw_writer(5, 4, labels)
    place = [np.flatnonzero((x == one).all((1, 2, 3))) for one in drawn]
    assert all(len(p) >= 1 for p in place)
    assert all(y[p[0]] == label for p, label in zip(place, labels, strict=True))
    assert len(np.unique(np.concatenate(place) // per_writer)) == 3  # mixed


def test_to_inputs_keeps_values():
    x = np.array([[[[0], [255]], [[51], [102]]]], np.uint8)
    inputs = pretraining.to_inputs(x, 4).numpy()
    assert inputs.shape == (1, 4, 4, 3)
    corners = inputs[0, [0, 0, 3, 3], [0, 3, 0, 3]]
    expected = np.array([0, 1, 0.2, 0.4])[:, None].repeat(3, 1)
    assert corners == pytest.approx(expected)


def test_augment_shows_both_polarities_and_keeps_the_range():
    x = np.zeros((400, 28, 28, 1), np.uint8)
    x[:, 9:19, 12:16] = 255
    seed = tf.constant([0, 7])
    images = pretraining.augment(x, 40, seed).numpy()
    assert images.shape == (400, 40, 40, 3)
    assert images.min() >= 0 and images.max() <= 1
    assert np.array_equal(images[..., 0], images[..., 2])
    dark_on_white = images[:, 20, 20, 0] < images[:, 0, 0, 0]
    assert 0.4 < dark_on_white.mean() < 0.6
    assert np.ptp(images, axis=(1, 2, 3)).min() > 0.2  # ink stays visible
    area = np.where(dark_on_white[:, None, None], 1 - images[..., 0], images[..., 0])
    area = (area > area.mean((1, 2), keepdims=True)).sum((1, 2))
    assert area.max() > 1.5 * area.min()  # zoomed
    assert np.array_equal(images, pretraining.augment(x, 40, seed).numpy())
    other = pretraining.augment(x, 40, tf.constant([0, 8])).numpy()
    assert not np.array_equal(images, other)


def test_network_is_mobilenet_v2_of_width_035():
    network = pretraining.build_network()
    assert network.output_shape == (None, 1280)
    # Its size without a head, as Keras documents it for width 0.35.
    assert network.count_params() == 410_208
    momenta = {
        layer.momentum
        for layer in network.layers
        if isinstance(layer, tf.keras.layers.BatchNormalization)
    }
    assert momenta == {0.99}


@pytest.mark.slow
def test_export_scales_inputs_for_the_network(tmp_path):
    network = pretraining.build_network(image_size=32)
    pretraining.export(network, pretraining.NETWORK, tmp_path / 'model')
    loaded = tf.saved_model.load(str(tmp_path / 'model'))
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    for training in (False, True):
        expected = network(images * 2 - 1, training=training)
        features = loaded(images, training=training)
        assert features.numpy() == pytest.approx(expected.numpy(), abs=1e-5)
    assert len(loaded.variables) == 260
    assert len(loaded.trainable_variables) == 156
    served = loaded.signatures['serving_default'](inputs=tf.zeros((1, 40, 48, 3)))
    assert served['output_0'].shape == (1, 1280)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'family'),
    [
        pytest.param('ResNet18', None, marks=pytest.mark.walk),
        ('MobileNet_025', 'mobilenet'),  # [-1, 1]
        # BGR less means
        pytest.param('ResNet50', 'resnet', marks=pytest.mark.walk),
        # [0, 255]; a layer that Keras numbers
        pytest.param('EfficientNetB0', 'efficientnet', marks=pytest.mark.walk),
    ],
)
def test_what_is_exported_is_a_backbone_and_weights_alike(name, family, tmp_path):
    network = pretraining.build_network(name, 32)
    images = np.random.default_rng(0).random((8, 32, 32, 3), np.float32)
    taken = images
    if family:
        # A copy, which some of the functions change in place.
        taken = getattr(tf.keras.applications, family).preprocess_input(255 * images)
    for layer in network.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.momentum = 0.0  # The statistics become those of the batch.
    network(taken, training=True)
    pretraining.export(network, name, tmp_path / 'model')
    expected = network(taken, training=False).numpy()
    close = 1e-3 * np.abs(expected).max()
    assert np.ptp(expected, axis=0).max() > 3 * close  # images differ
    whole = backbones.load(tmp_path / 'model', image_size=32)
    by_name = backbones.load(name, weights=str(tmp_path / 'model'), image_size=32)
    for backbone in (whole, by_name):
        np.testing.assert_allclose(backbone(images), expected, atol=close)

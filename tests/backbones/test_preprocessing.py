import numpy as np
import pytest
import tensorflow as tf

from tff_transfer.backbones.preprocessing import Preprocessing
from tff_transfer.errors import UserError

GREY = np.array([[[[0], [51]], [[102], [255]]]], np.uint8)
RGB = np.array([[[[255, 0, 51]]]], np.uint8)


def test_grey_bytes_become_rgb_in_range():
    out = Preprocessing((2, 2), (-1.0, 1.0))(GREY).numpy()
    by_hand = np.array([[[-1.0], [-0.6]], [[-0.2], [1.0]]])
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, np.repeat(by_hand[None], 3, -1), atol=1e-6)


@pytest.mark.parametrize('dtype', [np.float16, np.float32, np.float64])
def test_floats_in_0_1_equal_bytes(dtype):
    floats = (GREY / 255).astype(dtype)
    preprocess = Preprocessing((2, 2), (0.0, 255.0))
    np.testing.assert_allclose(preprocess(floats), preprocess(GREY), atol=0.1)


def test_rgb_to_grey_by_luma():
    out = Preprocessing((1, 1), (0.0, 1.0), channels=1)(RGB).numpy()
    # ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B.
    np.testing.assert_allclose(out, [[[[0.299 + 0.114 * 0.2]]]], atol=1e-3)


def test_enlarging_is_bilinear():
    row = np.array([0.0, 1.0], np.float32).reshape(1, 1, 2, 1)
    out = Preprocessing((1, 4), channels=1)(row).numpy().ravel()
    # Pixel centres stand at half integers: 0.25 of a pixel outside is clamped.
    np.testing.assert_allclose(out, [0, 0.25, 0.75, 1], atol=1e-6)


def test_shrinking_averages_instead_of_dropping_pixels():
    stripes = np.zeros((1, 8, 8, 1), np.float32)
    stripes[:, :, ::4] = 1
    out = Preprocessing((2, 2), channels=1)(stripes).numpy()
    plain = tf.image.resize(stripes, (2, 2)).numpy()
    assert plain.max() == 0  # What would happen without antialiasing.
    # Triangles of half-width 4 around 2 and 6: pixels 0 to 5 weigh 5, 7, 7, 5, 3 and 1
    # of 28, and pixels 2 to 7 weigh 1, 3, 5, 7, 7 and 5; stripes stand at 0 and 4.
    by_hand = [(5 + 3) / 28, 5 / 28]
    np.testing.assert_allclose(out[0, :, :, 0], [by_hand, by_hand], atol=1e-6)


@pytest.mark.parametrize('shape', [(28, 28), (200, 150), (96, 200)])
def test_unknown_size_in_a_graph_gives_the_same(shape):
    images = np.random.default_rng(0).integers(0, 256, (2, *shape, 3)).astype(np.uint8)
    preprocess = Preprocessing((96, 96))
    traced = tf.function(
        preprocess, input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)]
    )
    np.testing.assert_allclose(traced(images), preprocess(images), atol=1e-5)


@pytest.mark.parametrize(
    ('family', 'by_hand'),
    [
        ('mobilenet_v2', [1.0, -1.0, -0.6]),
        ('resnet', [51 - 103.939, 0 - 116.779, 255 - 123.68]),
        (
            'densenet',
            [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225],
        ),
        ('vgg16', [51 - 103.939, 0 - 116.779, 255 - 123.68]),
        ('vgg19', [51 - 103.939, 0 - 116.779, 255 - 123.68]),
        ('efficientnet', [255.0, 0.0, 51.0]),
    ],
)
def test_families_of_keras_applications(family, by_hand):
    out = Preprocessing((1, 1), (0.0, 255.0), family=family)(RGB)
    np.testing.assert_allclose(out, [[[by_hand]]], atol=1e-4)


@pytest.mark.parametrize('family', ['', 'resnet', 'densenet', 'mobilenet_v2'])
@pytest.mark.parametrize('side', [2, 4, 9])
def test_a_keras_file_can_hold_it(family, side, tmp_path):
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (3, 4, 4, 1)).astype(np.uint8)
    prepare = Preprocessing((side, side), (0.0, 255.0), family=family)
    inputs = tf.keras.Input((4, 4, 1), dtype='uint8')
    tf.keras.Model(inputs, prepare(inputs)).save(tmp_path / 'model.keras')
    network = tf.keras.models.load_model(tmp_path / 'model.keras')
    np.testing.assert_allclose(network(images), prepare(images), atol=1e-5)


@pytest.mark.parametrize(
    'images',
    [
        np.zeros((28, 28, 1), np.uint8),
        np.zeros((2, 28, 28, 4), np.uint8),
        np.zeros((2, 28, 28, 1), np.int64),
        np.zeros((2, 28, 28, 1), bool),
    ],
)
def test_other_shapes_and_dtypes_are_refused(images):
    with pytest.raises(UserError, match=r'^images of [^\n]+, but a backbone takes'):
        Preprocessing((8, 8))(images)

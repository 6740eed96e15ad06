"""MobileNets of each width, against published numbers and Keras."""

import numpy as np
import pytest
import tensorflow as tf
import walks

from tff_transfer import backbones
from tff_transfer.backbones import applications
from tff_transfer.errors import UserError

# Keras's documentation of MobileNetV2, with a top of 1,000 classes: trained weights
# in millions by width. The last convolution never has fewer than 1,280 channels.
MILLIONS = {
    'MobileNetV2_035': (1.66, 1280),
    'MobileNetV2_050': (1.95, 1280),
    'MobileNetV2_075': (2.61, 1280),
    'MobileNetV2_100': (3.47, 1280),
    'MobileNetV2_130': (5.34, 1664),
    'MobileNetV2_140': (6.06, 1792),
}
# Below 1, where the last convolution stays as it is, and above.
OF_EACH_KIND = ('MobileNetV2_035', 'MobileNetV2_140')


@pytest.mark.slow
@pytest.mark.parametrize('name', walks.over(MILLIONS, OF_EACH_KIND))
def test_a_width_has_its_published_size(name):
    millions, features = MILLIONS[name]
    network = applications.build(name, (64, 64), 'random', seed=0)
    assert network.output_shape == (None, features)
    trained = sum(np.prod(w.shape) for w in network.trainable_weights)
    assert (trained + (features + 1) * 1000) / 1e6 == pytest.approx(millions, abs=0.05)


def test_every_width_of_mobilenet_v2_is_named():
    names = {f'MobileNetV2_{width}' for width in applications.WIDTHS['MobileNetV2']}
    assert names == set(MILLIONS)
    families = applications.families()
    assert {families[name] for name in names} == {'mobilenet_v2'}
    assert families['MobileNet_025'] == 'mobilenet'


@pytest.mark.slow
@pytest.mark.walk
def test_a_weights_file_serves_every_size(tmp_path):
    network = tf.keras.applications.MobileNetV2(
        include_top=False,
        weights=None,
        pooling='avg',
        input_shape=(96, 96, 3),
        alpha=0.35,
    )
    path = str(tmp_path / 'w.h5')
    network.save_weights(path)
    draw = np.random.default_rng(0)
    for size in (48, 96):
        backbone = backbones.load('MobileNetV2_035', weights=path, image_size=size)
        assert backbone.image_size == (size, size)
        images = draw.integers(0, 256, (2, size, size, 3)).astype(np.uint8)
        # The same convolutions on images of another size.
        anew = tf.keras.applications.MobileNetV2(
            include_top=False,
            weights=None,
            pooling='avg',
            input_shape=(size, size, 3),
            alpha=0.35,
        )
        anew.set_weights(network.get_weights())
        expected = anew(images / np.float32(127.5) - 1, training=False)
        np.testing.assert_allclose(backbone(images), expected, rtol=1e-3, atol=1e-5)
    with pytest.raises(UserError, match='does not fit'):
        backbones.load('MobileNetV2_050', weights=path, image_size=48)


def test_a_wrong_width_gives_the_list():
    with pytest.raises(UserError, match='MobileNetV2_035, .*, MobileNetV2_140') as told:
        backbones.load('MobileNetV2_036', weights='random')
    assert 'there is no backbone MobileNetV2_036' in str(told.value)
    assert '\n' not in str(told.value)

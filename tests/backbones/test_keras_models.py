"""Backbones of `.keras` and `.h5` files, beside the models that were saved."""

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer import backbones
from tff_transfer.backbones.keras_models import CLASSIFIER
from tff_transfer.data import synthetic_writers
from tff_transfer.errors import UserError
from tff_transfer.features.scaling import Standardisation
from tff_transfer.models.below import Below
from tff_transfer.networks import keras_layers
from tff_transfer.records import keras_file
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
KINDS = ['keras', 'h5']
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning')


def network(*top, size=(8, 8, 3), dtype='float32', name='small'):
    tf.keras.utils.set_random_seed(1)
    images = tf.keras.Input(size, dtype=dtype)
    x = images
    if dtype == 'uint8':
        x = tf.keras.layers.Rescaling(1 / 255)(x)
    x = tf.keras.layers.Conv2D(4, 3, activation='relu')(x)
    x = tf.keras.layers.BatchNormalization()(x)
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    for layer in top:
        x = layer(x)
    return tf.keras.Model(images, x, name=name)


def saved(model, folder, kind):
    model.save(folder / f'model.{kind}')
    return folder / f'model.{kind}'


def error(path) -> str:
    with pytest.raises(UserError) as told:
        backbones.load(path)
    assert '\n' not in str(told.value) and str(path) in str(told.value)
    return str(told.value)


@pytest.mark.parametrize('kind', KINDS)
def test_a_file_gives_the_features_of_its_model(tmp_path, kind):
    model = network(tf.keras.layers.Dense(5))
    backbone = backbones.load(saved(model, tmp_path, kind))
    assert (backbone.name, backbone.image_size) == (f'model.{kind}', (8, 8))
    expected = model(IMAGES / np.float32(255), training=False)
    np.testing.assert_allclose(backbone(IMAGES), expected, atol=1e-6)
    assert backbone.fingerprint == backbones.load(model).fingerprint


def test_a_model_of_bytes_sees_bytes(tmp_path):
    model = network(dtype='uint8')
    backbone = backbones.load(saved(model, tmp_path, 'keras'))
    assert backbone.value_range == (0, 255)
    np.testing.assert_allclose(backbone(IMAGES), model(IMAGES), atol=1e-6)
    floats = IMAGES / np.float32(255)
    np.testing.assert_allclose(backbone(floats), model(IMAGES), atol=1e-5)


DENSE = tf.keras.layers.Dense
TOPS = {
    'softmax in the layer': lambda: [DENSE(5), DENSE(7, activation='softmax')],
    'softmax as a layer': lambda: [DENSE(5), DENSE(7), tf.keras.layers.Softmax()],
    'softmax as an activation': lambda: [
        *(DENSE(5), DENSE(7), tf.keras.layers.Activation('softmax'))
    ],
    'softmax in a model': lambda: [
        tf.keras.Sequential(
            [tf.keras.Input(4), DENSE(5), DENSE(7), DENSE(7, 'softmax')]
        )
    ],
}


@pytest.mark.parametrize('top', TOPS)
def test_the_features_of_a_classifier_are_below_its_last_dense_layer(tmp_path, top):
    model = network(*TOPS[top]())
    backbone = backbones.load(saved(model, tmp_path, 'keras'))
    pooled = network().predict(IMAGES / np.float32(255), verbose=0)
    by_hand = pooled
    *below, _, _ = [
        w for w in model.get_weights() if w.ndim == 2 or w.shape in ((5,), (7,))
    ]
    for kernel, bias in zip(below[::2], below[1::2], strict=True):
        by_hand = by_hand @ kernel + bias
    np.testing.assert_allclose(backbone(IMAGES), by_hand, atol=1e-5)


@pytest.fixture(scope='module')
def data():
    return synthetic_writers.generate(6, 8, seed=1, classes=10)


def exported(model, spec, cosine=False):
    """What --export_keras writes of a backbone of Keras and a head."""
    backbone = backbones.load(model)
    inputs = tf.keras.Input((backbone.feature_size,))
    hidden = tf.keras.layers.Dense(6, 'relu')(inputs)
    last = keras_layers.CosineDense(10) if cosine else tf.keras.layers.Dense(10)
    head = tf.keras.Model(inputs, last(hidden))
    mean, deviation = np.full(4, 0.1, np.float32), np.full(4, 2, np.float32)
    standardise = Standardisation(mean, deviation)
    below = Below(backbone, standardise)
    return keras_file.build(spec, below, head, [])


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('cosine', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_model_of_ours_extracts_what_goes_into_its_last_layer(
    tmp_path, data, kind, cosine
):
    spec = tf.TensorSpec([None, 28, 28, 1], tf.uint8)
    model = exported(network(), spec, cosine)
    path = saved(model, tmp_path, kind)
    backbone = backbones.load(path)
    assert (backbone.feature_size, backbone.image_size) == (6, (28, 28))
    # Its last layer on them gives its logits.
    features = backbone(data.x[:5])
    head = tf.keras.models.load_model(path, compile=False).layers[-1].layers[-1]
    np.testing.assert_allclose(head(features), model(data.x[:5]), atol=1e-5)
    # Images of another party: of another size, in colour, in floats.
    assert backbone(IMAGES / np.float32(255)).shape == (3, 6)


@pytest.mark.slow
def test_what_a_run_exported_is_the_backbone_of_another(tmp_path, data, monkeypatch):
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))
    training = TrainingConfig(rounds=1, clients_per_round=3, export_keras=True)
    first = Config(DataConfig(), ModelConfig('mlp', hidden_units=(6,)), training)
    loop.train(first, tmp_path / 'first', data=data)
    path = tmp_path / 'first' / 'model.keras'
    assert tf.keras.models.load_model(path).name == CLASSIFIER
    for strategy in ('head', 'all'):
        chosen = ModelConfig(backbone=str(path), finetune=strategy)
        # A linear head starts at zero, so that nothing below it moves in one step.
        training = TrainingConfig(rounds=2, clients_per_round=3)
        result = loop.train(Config(DataConfig(), chosen, training), data=data)
        shapes = [weight.shape for weight in result.weights]
        below = [(784, 6), (6,)] if strategy == 'all' else []
        assert shapes == [*below, (6, 10), (10,)]
        moved = zip(result.setup.model.initial_weights, result.weights, strict=True)
        assert all(np.abs(a - b).max() > 0 for a, b in moved)


@pytest.mark.parametrize('kind', KINDS)
def test_a_lambda_layer_is_not_read(tmp_path, kind):
    model = network(tf.keras.layers.Lambda(lambda x: x * 2))
    assert 'Lambda layer' in error(saved(model, tmp_path, kind))
    inside = network(tf.keras.Sequential([model.layers[-1]]))
    assert 'Lambda layer' in error(saved(inside, tmp_path, kind))


@pytest.mark.parametrize('kind', KINDS)
def test_a_damaged_file_is_told(tmp_path, kind):
    path = saved(network(), tmp_path, kind)
    whole = path.read_bytes()
    for kept in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:kept])
        assert 'cannot be read' in error(path)


def test_weights_alone_are_told(tmp_path):
    network().save_weights(tmp_path / 'w.h5')
    assert 'weights alone' in error(tmp_path / 'w.h5')


def test_layers_of_others_are_told(tmp_path):
    class Own(tf.keras.layers.Layer):
        def call(self, inputs):
            return inputs

    for kind in KINDS:
        assert 'layers of its own' in error(saved(network(Own()), tmp_path, kind))


def test_what_takes_no_images_or_gives_no_vectors_is_told(tmp_path):
    vectors = tf.keras.Sequential([tf.keras.Input(5), tf.keras.layers.Dense(2)])
    path = saved(vectors, tmp_path, 'keras')
    with pytest.raises(UserError, match='not float32 images'):
        backbones.load(path)
    maps = network()
    maps = tf.keras.Model(maps.input, maps.layers[1].output)
    with pytest.raises(UserError, match='not feature vectors'):
        backbones.load(saved(maps, tmp_path, 'keras'))

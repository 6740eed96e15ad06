"""A `.keras` file predicts as the trained model, in plain TensorFlow."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import walks

from tff_transfer import algorithms, backbones
from tff_transfer.data import synthetic_writers
from tff_transfer.errors import UserError
from tff_transfer.networks import keras_layers
from tff_transfer.records import keras_file
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig


@pytest.fixture(scope='module')
def data():
    return synthetic_writers.generate(6, 8, seed=1, classes=10)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))


def small_network():
    """Convolutions with BatchNorm, of statistics that are no longer 0 and 1."""
    images = tf.keras.Input((12, 12, 3))
    x = tf.keras.layers.Conv2D(8, 3, 2, name='first')(images)
    x = tf.keras.layers.BatchNormalization()(x)
    x = tf.keras.layers.ReLU(6)(x)
    x = tf.keras.layers.Conv2D(16, 1)(x)
    network = tf.keras.Model(images, tf.keras.layers.GlobalAveragePooling2D()(x))
    draw = np.random.default_rng(1)
    for weight in network.weights:
        weight.assign(np.abs(draw.normal(size=weight.shape)) / 2)
    return network


RIDGE = algorithms.Ridge(penalty=10.0)


def config(algorithm=None, **model):
    training = TrainingConfig(
        rounds=4,
        client_epochs=3,
        client_learning_rate=0.2,
        clients_per_round=3,
        server_optimizer='sgd',
        server_learning_rate=1.0,
        export_keras=True,
    )
    if algorithm == RIDGE:  # Computed, so that the rest has no effect.
        training = TrainingConfig(export_keras=True)
    chosen = algorithm or algorithms.FedAvg()
    return Config(DataConfig(), ModelConfig(**model), training, chosen)


# Loads files where this package is not there.
PLAIN = """
import sys
sys.modules['tff_transfer'] = None
import numpy, tensorflow
for line in sys.stdin:
    path, x, y = line.rstrip().split(chr(9))
    network = tensorflow.keras.models.load_model(path)
    numpy.save(y, network.predict(numpy.load(x), verbose=0))
    print('predicted', flush=True)
"""


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    """A process that loads files: to start it takes longer than to load one."""
    command = [sys.executable, '-c', PLAIN]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path_factory.mktemp('plain'),
    ) as process:
        yield process


def predicted(plain, path, x, folder):
    np.save(folder / 'x.npy', x)
    paths = path, folder / 'x.npy', folder / 'y.npy'
    print(*paths, sep='\t', file=plain.stdin, flush=True)
    assert plain.stdout.readline() == 'predicted\n'
    return np.load(folder / 'y.npy')


def check_run(result, data, found):
    """Returns how far each weight moved."""
    x = result.setup.transform(result.setup.data.x[:7])
    expected = result.setup.model.logits(list(map(tf.constant, result.weights)), x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.ptp(expected) > 1e-2
    initial = result.setup.model.initial_weights
    moved = [np.abs(a - b).max() for a, b in zip(initial, result.weights, strict=True)]
    # The second weight of adapters is B of the first, which starts at 0.
    assert max(moved[:2]) > 1e-5
    return moved


STRATEGIES = {
    'head': {},
    'head with dropout': {'hidden_units': (7, 5), 'dropout': 0.5},
    'all': {'finetune': 'all'},
    'bias_norm': {'finetune': 'bias_norm'},
    'adapters': {'finetune': 'adapters', 'adapter_rank': 2},
    'aggregated statistics': {'finetune': 'all', 'batch_norm': 'aggregate'},
    'top': {'finetune': 'top', 'cut_layer': 'first'},
    'ridge': {'algorithm': RIDGE},
}
OF_EACH_KIND = (
    *('head with dropout', 'adapters', 'aggregated statistics', 'top'),
    'ridge',
)


@pytest.mark.slow
@pytest.mark.parametrize('case', walks.over(STRATEGIES, OF_EACH_KIND))
def test_a_keras_backbone_predicts_as_the_trained_model(
    case, data, tmp_path, monkeypatch, plain
):
    network = small_network()
    before = network.get_weights()
    monkeypatch.setattr(loop, 'load_backbone', lambda config: backbones.load(network))
    result = loop.train(config(**STRATEGIES[case]), tmp_path / 'run', data=data)
    path = tmp_path / 'run' / 'model.keras'
    moved = check_run(result, data, predicted(plain, path, data.x[:7], tmp_path))
    if case == 'aggregated statistics':
        assert min(moved[-2:]) > 1e-2  # The mean and the variance, which come last.
    for ours, old in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, old)


@pytest.mark.slow
@pytest.mark.parametrize(
    'model',
    [
        {'model': 'cnn', 'dropout': 0.5},
        {'model': 'mlp', 'hidden_units': (5,)},
        *(
            pytest.param({**made, 'image_size': 32}, marks=pytest.mark.walk)
            for made in (
                {'hidden_units': (5,), 'dropout': 0.2},
                {'finetune': 'top', 'top_layers': 1},
                {'backbone': 'MobileNetV2_035', 'backbone_weights': 'random'},
                {
                    'backbone': 'MobileNetV2_035',
                    'backbone_weights': 'random',
                    'finetune': 'all',
                },
            )
        ),
    ],
    ids=str,
)
def test_named_networks_predict_as_the_trained_model(model, data, tmp_path, plain):
    result = loop.train(config(**model), tmp_path / 'run', data=data)
    path = tmp_path / 'run' / 'model.keras'
    found = predicted(plain, path, data.x[:7], tmp_path)
    check_run(result, data, found)


@pytest.mark.slow
def test_a_cosine_head_is_read_with_this_package(data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        loop, 'load_backbone', lambda config: backbones.load(small_network())
    )
    result = loop.train(config(head='cosine'), tmp_path / 'run', data=data)
    network = tf.keras.models.load_model(tmp_path / 'run' / 'model.keras')
    check_run(result, data, network.predict(data.x[:7], verbose=0))
    (head,) = (
        part
        for part in network.submodules
        if isinstance(part, keras_layers.CosineDense)
    )
    assert head.units == 10


@pytest.mark.slow
def test_what_a_keras_file_cannot_hold_is_told_before_training(data, tmp_path):
    saved = tmp_path / 'saved'
    tf.saved_model.save(small_network(), str(saved))
    for model, part in (
        ({'backbone': str(saved)}, 'is a SavedModel'),
        (
            {
                'backbone': 'ConvNeXtTiny',
                'backbone_weights': 'random',
                'image_size': 32,
            },
            'cannot hold',
        ),
    ):
        with pytest.raises(UserError, match=part) as told:
            loop.train(config(**model), tmp_path / 'run', data=data)
        assert '--export_keras' in str(told.value) and '\n' not in str(told.value)
        assert not (tmp_path / 'run' / 'metrics.csv').exists()
        assert not (tmp_path / 'cache' / 'features').exists()
        shutil.rmtree(tmp_path / 'run')


def test_names_that_stand_for_two_weights_are_told(data):
    images = tf.keras.Input((12, 12, 3))
    x = images
    for _ in range(2):
        inner = tf.keras.Input((None, None, 3))
        layer = tf.keras.layers.Conv2D(3, 1, name='twice')
        x = tf.keras.Model(inner, layer(inner))(x)
    network = tf.keras.Model(images, tf.keras.layers.GlobalAveragePooling2D()(x))
    backbone = backbones.load(network)
    with pytest.raises(UserError, match='same name'):
        model = loop.head_or_network(config(), data, backbone)
        keras_file.check(data.x, backbone, model.network)

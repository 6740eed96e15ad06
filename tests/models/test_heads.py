"""Heads of one's own, and the cosine layer beside NumPy."""

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from tff_transfer import backbones, models
from tff_transfer.algorithms import registry
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.models import heads
from tff_transfer.networks import keras_layers
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

SIZE, CLASSES = 6, 4


def test_cosine_logits():
    draw = np.random.default_rng(0)
    x, kernel = draw.normal(size=(3, 5)), draw.normal(size=(5, 4))
    layer = keras_layers.CosineDense(4, scale=2.5)
    layer.build((None, 5))
    layer.set_weights([kernel, 2.5])
    cosines = sklearn.metrics.pairwise.cosine_similarity(x, kernel.T)
    np.testing.assert_allclose(layer(tf.constant(x, tf.float32)), 2.5 * cosines, 1e-5)
    again = keras_layers.CosineDense.from_config(layer.get_config())
    assert again.units == 4 and again.initial_scale == 2.5


def test_a_cosine_head_trains_its_scale():
    model = models.mlp((SIZE,), CLASSES, (7,), seed=3, cosine=True)
    shapes = [w.shape for w in model.network.get_weights()]
    assert shapes == [(SIZE, 7), (7,), (7, CLASSES), ()]
    assert model.network.get_weights()[-1] == 10
    again = models.mlp((SIZE,), CLASSES, (7,), seed=3, cosine=True)
    np.testing.assert_array_equal(
        model.network.get_weights()[2], again.network.get_weights()[2]
    )


@pytest.fixture
def small_backbone(monkeypatch, tmp_path):
    """The backbone of all runs: 8 x 8 pixels as they are, in red alone."""
    images = tf.keras.Input((8, 8, 3))
    model = tf.keras.Model(images, tf.keras.layers.Flatten()(images[..., :1]))
    backbone = backbones.load(model)
    monkeypatch.setattr(loop, 'load_backbone', lambda config: backbone)
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))


def pictures(clients=10, each=40):
    draw = np.random.default_rng(0)
    y = draw.integers(0, 3, clients * each).astype(np.int32)
    x = draw.normal(100, 20, (len(y), 8, 8, 1))
    x[np.arange(len(y)), y] += 40
    return FederatedData(
        'pictures',
        np.clip(x, 0, 255).astype(np.uint8),
        y,
        tuple(map(str, range(clients))),
        np.full(clients, each - 10),
        np.full(clients, 10),
        3,
    )


@pytest.mark.parametrize(
    'name', [pytest.param('prototype', marks=pytest.mark.slow), 'ridge']
)
def test_a_run_of_one_round(small_backbone, tmp_path, name):
    config = Config(DataConfig(unseen_fraction=0.2), algorithm=registry.options(name)())
    data = pictures()
    result = loop.train(config, tmp_path / 'run', data=data)
    assert [row['round'] for row in result.rows] == [0, 1]
    last = result.rows[1]
    assert last['bytes/down'] == 0
    sums = 3 * 64 + 3 + (64 * 64 if name == 'ridge' else 0)
    assert last['bytes/up'] == 8 * 8 * sums
    page = (tmp_path / 'run' / 'report.html').read_text()
    assert ('--ridge.penalty=' in page) == (name == 'ridge')
    # Judged again, from the images, by what was exported.
    model = tf.saved_model.load(str(tmp_path / 'run' / 'model'))
    right = np.argmax(model(data.x)['logits'], 1) == data.y
    unseen = np.isin(data.client_of_row, result.setup.unseen)
    assert last['unseen/accuracy'] == pytest.approx(right[unseen].mean())
    assert last['unseen/accuracy'] > 0.9 > result.rows[0]['unseen/accuracy']
    again = loop.train(config, tmp_path / 'run', data=data)
    for one, two in zip(
        result.network.get_weights(), again.network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize('name', ['personalprototype', 'personalridge'])
@pytest.mark.slow
def test_a_run_of_one_round_with_own_heads(small_backbone, tmp_path, name):
    config = Config(DataConfig(unseen_fraction=0.2), algorithm=registry.options(name)())
    data = pictures()
    result = loop.train(config, tmp_path / 'run', data=data)
    last = result.rows[1]
    assert last['unseen/accuracy'] > 0.9
    # The head of all goes down, a kernel and a bias.
    assert last['bytes/down'] == 8 * 4 * (64 * 3 + 3)
    # What is exported is the head of all.
    model = tf.saved_model.load(str(tmp_path / 'run' / 'model'))
    logits = model(data.x[: len(data.x) // 10])['logits']
    found = result.setup.transform(result.setup.data.x[: len(data.x) // 10])
    kernel, bias = result.weights
    np.testing.assert_allclose(logits, found @ kernel + bias, rtol=1e-3, atol=1e-3)


def test_a_head_of_ones_own_and_a_computed_one_are_refused(small_backbone):
    config = Config(algorithm=registry.options('ridge')())
    with pytest.raises(UserError, match='own is trained, but --algorithm=ridge'):
        loop.train(config, data=pictures(), head=own)


@pytest.mark.slow
def test_a_run_with_a_cosine_head(small_backbone, tmp_path):
    config = Config(
        DataConfig(unseen_fraction=0.2),
        ModelConfig(head='cosine'),
        TrainingConfig(clients_per_round=3, rounds=30),
    )
    data = pictures()
    result = loop.train(config, tmp_path / 'run', data=data)
    model = tf.saved_model.load(str(tmp_path / 'run' / 'model'))
    right = np.argmax(model(data.x)['logits'], 1) == data.y
    unseen = np.isin(data.client_of_row, result.setup.unseen)
    assert result.rows[-1]['unseen/accuracy'] == pytest.approx(right[unseen].mean())
    assert result.rows[-1]['unseen/accuracy'] > 0.9
    assert result.network.get_weights()[1] != 10


@pytest.mark.parametrize(
    ('model', 'part'),
    [
        ({'head': 'cosine'}, "head='cosine'"),
        ({'hidden_units': (4,)}, r'hidden_units=\(4,\)'),
    ],
)
def test_a_head_of_ones_own_and_another_are_refused(small_backbone, model, part):
    training = TrainingConfig(clients_per_round=3)
    config = Config(model=ModelConfig(**model), training=training)
    with pytest.raises(UserError, match=f'{part} are both given'):
        loop.train(config, data=pictures(), head=own)


def own(size, outputs, **arguments):
    features = tf.keras.Input((size,), **arguments)
    return tf.keras.Model(features, tf.keras.layers.Dense(outputs)(features))


@pytest.mark.parametrize(
    ('head', 'part'),
    [
        (
            lambda size, classes: None,
            'gives a NoneType, but must give a tf.keras.Model',
        ),
        (lambda size, classes: tf.keras.layers.Dense(classes), 'gives a Dense, but'),
        (
            lambda size, classes: tf.keras.Sequential([tf.keras.layers.Dense(classes)]),
            'does not know its inputs; begin it with tf.keras.Input((5,))',
        ),
        (lambda size, classes: own(size, 7), '(None, 7), but there are 3 classes'),
        (lambda size, classes: own(size, 2), '(None, 2), but there are 3 classes'),
        (lambda size, classes: own(4, classes), 'features of shape (None, 5)'),
        (
            lambda size, classes: own(size, classes, batch_size=1),
            'inputs of shape (1, 5)',
        ),
        (
            lambda size, classes: tf.keras.Model(
                model := tf.keras.Input((size,)), [model, model]
            ),
            'outputs of shape several',
        ),
    ],
)
def test_a_head_of_ones_own_is_looked_at_first(head, part):
    with pytest.raises(UserError) as caught:
        heads.own(head, 5, 3)
    assert part in str(caught.value) and '\n' not in str(caught.value)


def test_a_head_of_ones_own_that_fits_is_taken(small_backbone):
    assert heads.own(own, 5, 3).output.shape == (None, 3)
    config = Config(training=TrainingConfig(clients_per_round=3))
    with pytest.raises(UserError, match=r'\(None, 2\), but there are 3 classes'):
        loop.train(config, data=pictures(), head=lambda size, classes: own(size, 2))


@pytest.mark.parametrize(
    ('model', 'flag'),
    [
        (ModelConfig(model='cnn', cache_dtype='uint8'), '--cache_dtype'),
        (ModelConfig(head='linaer'), 'did you mean linear'),
    ],
)
def test_unfit_values_are_named(model, flag):
    with pytest.raises(UserError, match=flag):
        Config(model=model).check()

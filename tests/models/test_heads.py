"""Heads of one round beside scikit-learn's, and the cosine layer beside NumPy."""

import numpy as np
import pytest
import sklearn.linear_model
import sklearn.metrics
import sklearn.neighbors
import tensorflow as tf

from tff_transfer import backbones, models, runtime
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.models import heads
from tff_transfer.networks import keras_layers
from tff_transfer.training import loop
from tff_transfer.training.config import (
    Config,
    DataConfig,
    ModelConfig,
    TrainingConfig,
)

SIZE, CLASSES = 6, 4
SEEN = [0, 2, 3]


def vectors(train=(5, 40, 0, 300), test=10, classes=CLASSES):
    draw = np.random.default_rng(0)
    n = sum(train) + test * len(train)
    y = draw.integers(0, classes, n).astype(np.int32)
    x = draw.normal(3, 1, (n, SIZE)) + draw.normal(size=(classes, SIZE))[y]
    return FederatedData(
        'vectors',
        x.astype(np.float32),
        y,
        tuple(map(str, range(len(train)))),
        np.array(train),
        np.full(len(train), test),
        classes,
    )


def transform(x):
    return (x - np.float32(3)) * np.float32(0.5)


def pooled(data):
    rows = np.concatenate([np.r_[data.train_rows(c)] for c in SEEN])
    return transform(data.x[rows]).astype(np.float64), data.y[rows]


@pytest.fixture(params=['compiled', 'stock'])
def any_runtime(request):
    with getattr(runtime, f'use_{request.param}')():
        yield


@pytest.fixture(scope='module', params=['compiled', 'stock'])
def ridge(request):
    with getattr(runtime, f'use_{request.param}')():
        return heads.ridge(vectors(), SEEN, transform)


@pytest.mark.parametrize('penalty', [0.0, 0.5, 100.0])
def test_ridge_is_scikit_learns_on_pooled_data(ridge, penalty):
    kernel, bias = ridge(penalty)
    pool = pooled(vectors())
    expected = sklearn.linear_model.RidgeClassifier(alpha=penalty).fit(*pool)
    np.testing.assert_allclose(kernel.T, expected.coef_, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(bias, expected.intercept_, rtol=1e-6, atol=1e-7)


def test_ridge_of_features_that_depend_on_each_other():
    data = vectors()
    data = data.with_x(np.concatenate([data.x, data.x[:, :2]], 1))
    with runtime.use_compiled():
        kernel, bias = heads.ridge(data, SEEN, transform)(0.0)
    x, y = pooled(data)
    # The shortest of all least-squares solutions.
    target = 2 * np.eye(CLASSES)[y] - 1
    expected = np.linalg.lstsq(x - x.mean(0), target - target.mean(0), rcond=1e-9)[0]
    np.testing.assert_allclose(kernel, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        bias, target.mean(0) - x.mean(0) @ expected, rtol=1e-5, atol=1e-6
    )


def test_prototype_chooses_the_nearest_mean(any_runtime):
    data = vectors()
    kernel, bias = heads.prototype(data, SEEN, transform)
    expected = sklearn.neighbors.NearestCentroid().fit(*pooled(data))
    np.testing.assert_allclose(kernel.T, expected.centroids_, rtol=1e-6, atol=1e-7)
    x = transform(data.x)
    np.testing.assert_array_equal(np.argmax(x @ kernel + bias, 1), expected.predict(x))
    distances = ((x[:, None] - kernel.T) ** 2).sum(2)
    logits = x @ kernel + bias
    np.testing.assert_allclose(
        logits - logits[:, :1], (distances[:, :1] - distances) / 2, atol=1e-4
    )


def test_a_class_without_examples_is_never_nearest():
    data = vectors()
    data = FederatedData(
        data.name,
        np.abs(data.x) * 1e-3,
        data.y,
        data.client_ids,
        data.num_train,
        data.num_test,
        CLASSES + 1,
    )
    with runtime.use_compiled():
        kernel, bias = heads.prototype(data, SEEN, lambda x: x)
    assert not kernel[:, CLASSES].any()
    assert (np.argmax(data.x @ kernel + bias, 1) < CLASSES).all()


def test_heads_of_clients_without_examples_are_refused():
    with (
        runtime.use_compiled(),
        pytest.raises(UserError, match='no client has training examples'),
    ):
        heads.prototype(vectors(), [2], transform)


def test_the_penalty_is_the_one_of_the_best_accuracy():
    data = vectors()
    asked = {}

    def accuracy(weights):
        # The larger the penalty the smaller the weights.
        length = float(np.abs(weights[0]).sum())
        asked[length] = 0.9 if length > 0.1 else 0.5
        return asked[length]

    with runtime.use_compiled():
        weights_of = heads.ridge(data, SEEN, transform)
        solution = heads.solve('ridge', data, SEEN, transform, accuracy=accuracy)
        with pytest.raises(UserError, match='--ridge_penalty'):
            heads.solve('ridge', data, SEEN, transform)
    lengths = {p: np.abs(weights_of(p)[0]).sum() for p in heads.PENALTIES}
    best = max(p for p in heads.PENALTIES if lengths[p] > 0.1)
    assert best < max(heads.PENALTIES)
    np.testing.assert_array_equal(solution.weights[0], weights_of(best)[0])
    assert solution.chosen == {'ridge penalty': f'{best:g}'}
    # 6 x 6 products, 4 x 6 sums and 4 counts of 8 bytes.
    assert solution.bytes_up == 8 * (36 + 24 + 4)


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


@pytest.mark.parametrize('head', ['prototype', 'ridge'])
def test_a_run_of_one_round(small_backbone, tmp_path, head):
    config = Config(DataConfig(unseen_fraction=0.2), ModelConfig(head=head))
    data = pictures()
    result = loop.train(config, tmp_path / 'run', data=data)
    assert [row['round'] for row in result.rows] == [0, 1]
    last = result.rows[1]
    assert last['bytes/down'] == 0
    sums = 3 * 64 + 3 + (64 * 64 if head == 'ridge' else 0)
    assert last['bytes/up'] == 8 * 8 * sums
    page = (tmp_path / 'run' / 'report.html').read_text()
    assert ('ridge penalty' in page) == (head == 'ridge')
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
        (ModelConfig(head='ridge', model='cnn'), '--model=backbone'),
        (ModelConfig(head='ridge', hidden_units=(3,)), '--hidden_units'),
        (ModelConfig(ridge_penalty=1.0), '--head=ridge'),
        (ModelConfig(model='cnn', cache_dtype='uint8'), '--cache_dtype'),
        (ModelConfig(head='ridge', ridge_penalty=0.0), '--ridge_penalty'),
        (ModelConfig(head='rigde'), 'did you mean ridge'),
    ],
)
def test_unfit_values_are_named(model, flag):
    with pytest.raises(UserError, match=flag):
        Config(model=model).check()

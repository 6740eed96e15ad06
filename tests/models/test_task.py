"""Tasks: classification, and that another one is trained by the same loop."""

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer import models
from tff_transfer.algorithms.method import Context
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.models import CLASSIFICATION, Task
from tff_transfer.records import metrics
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

CLIENTS, TRAIN, TEST, SIZE, RATE = 5, 6, 2, 3, 0.05

SQUARED_ERROR = Task(
    measures=('loss', 'error'),
    measure=lambda outputs, labels: {
        'loss': (outputs[:, 0] - tf.cast(labels, tf.float32)) ** 2,
        'error': tf.abs(outputs[:, 0] - tf.cast(labels, tf.float32)),
    },
    decides='error',
    highest=False,
    shown='.3f',
)


def linear():
    network = tf.keras.Sequential(
        [
            tf.keras.layers.Input([SIZE]),
            tf.keras.layers.Dense(1, kernel_initializer='zeros'),
        ]
    )
    return models.from_keras(network, SQUARED_ERROR)


def make_data():
    draw = np.random.default_rng(0)
    count = CLIENTS * (TRAIN + TEST)
    x = draw.normal(size=(count, SIZE)).astype(np.float32)
    y = np.rint(np.clip(x @ [2, -1, 1] + 5, 0, 9)).astype(np.int32)
    names = tuple(f'client {i}' for i in range(CLIENTS))
    train, test = np.full(CLIENTS, TRAIN), np.full(CLIENTS, TEST)
    return FederatedData('toy', x, y, names, train, test, 10)


def config(**more):
    training = TrainingConfig(
        clients_per_round=CLIENTS - 1,
        batch_size=TRAIN,
        client_learning_rate=RATE,
        server_optimizer='sgd',
        server_learning_rate=1.0,
        export='best',
        evaluate_every=1,
        early_stop_patience=1,
        **more,
    )
    return Config(DataConfig(unseen_fraction=0.2), ModelConfig('mlp'), training)


def test_classification_is_cross_entropy_and_the_share_of_right_answers():
    logits = np.array([[2.0, 0.5, -1.0], [0.0, 3.0, 1.0]], np.float32)
    labels, weights = np.array([0, 2], np.int32), np.array([0.5, 3.0], np.float32)
    exact = logits.astype(np.float64)
    losses = np.log(np.exp(exact).sum(axis=1)) - exact[[0, 1], labels]
    found = CLASSIFICATION.examples(logits, labels)
    assert list(found) == ['loss', 'accuracy', 'predicted']
    np.testing.assert_allclose(found['loss'], losses, rtol=1e-6)
    np.testing.assert_array_equal(found['accuracy'], [1, 0])
    np.testing.assert_array_equal(found['predicted'], [0, 1])

    def loss(*batch):
        return float(CLASSIFICATION.loss(*batch))

    assert loss(logits, labels) == pytest.approx(losses.mean(), rel=1e-6)
    expected = (weights * losses).mean()
    assert loss(logits, labels, weights) == pytest.approx(expected, rel=1e-6)
    assert loss(logits[:0], labels[:0]) == 0


def test_the_best_is_the_first_of_the_highest_or_lowest_and_never_nan():
    assert CLASSIFICATION.best([0.1, np.nan, 0.7, 0.7]) == 2
    assert SQUARED_ERROR.best([np.nan, 3.0, np.inf, 2.0, 2.0]) == 3


@pytest.mark.slow
def test_another_task_is_trained_and_judged_by_its_own_measures(monkeypatch, tmp_path):
    monkeypatch.setattr(loop, 'head_or_network', lambda *_: linear())
    data = make_data()
    # It is stopped after two rounds and goes on.
    loop.train(config(rounds=2), tmp_path / 'run', data=data)
    result = loop.train(config(rounds=4), tmp_path / 'run', data=data)
    unseen = np.isin(data.client_of_row, result.setup.unseen)
    x, y = data.x.astype(np.float64), data.y
    trained = ~unseen & data.is_train
    # All clients take one step on all they have: gradient descent on all examples.
    kernel, bias, losses = np.zeros(SIZE), 0.0, []
    for number, row in enumerate(result.rows):
        error = x @ kernel + bias - y
        for part, those in (('seen', ~unseen & ~data.is_train), ('unseen', unseen)):
            expected = {
                'loss': np.mean(error[those] ** 2),
                'error': np.mean(np.abs(error[those])),
            }
            expected['error_per_client'] = expected['error']  # They are of one size.
            for name, value in expected.items():
                assert row[f'{part}/{name}'] == pytest.approx(value, rel=1e-5)
        losses.append(np.mean(error[trained] ** 2))
        if number < 4:
            kernel = kernel - RATE * 2 * error[trained] @ x[trained] / trained.sum()
            bias = bias - RATE * 2 * error[trained].mean()
    # A batch is measured with the weights that it meets.
    measured = [row['train/loss'] for row in result.rows[1:]]
    assert measured == pytest.approx(losses[:4], rel=1e-5)
    found = result.network.get_weights()
    np.testing.assert_allclose(found[0][:, 0], kernel, rtol=1e-5)
    np.testing.assert_allclose(found[1], [bias], rtol=1e-5)
    # The lowest error was the last one: it is exported, and did not stop early.
    assert result.exported_round == 4
    assert list(metrics.read(tmp_path / 'run' / 'metrics.csv')[0])[:9] == [
        'round',
        *('train/loss', 'train/error', 'train/clients', 'train/dropped_clients'),
        *('seen/loss', 'seen/error', 'seen/error_per_client', 'unseen/loss'),
    ]
    last = np.abs(error[unseen]).mean()
    assert result.per_client['unseen'] == pytest.approx({'client 2': last}, rel=1e-5)
    page = (tmp_path / 'run' / 'report.html').read_text()
    assert f'<td>{last:.3f}</td>' in page
    assert 'goes wrong' not in page and 'ccuracy' not in page
    model = tf.saved_model.load(str(tmp_path / 'run' / 'model'))
    outputs = model(data.x[:4])
    assert list(outputs) == ['outputs']
    expected = data.x[:4] @ found[0] + found[1]
    np.testing.assert_allclose(outputs['outputs'], expected, rtol=1e-5)


def test_a_method_of_classes_is_refused_where_there_are_none():
    with pytest.raises(UserError, match='needs the classes'):
        _ = Context(linear(), None, None).classes

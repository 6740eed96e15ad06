"""Runs that fine-tune a backbone, to what they leave behind."""

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer.data import synthetic_writers
from tff_transfer.errors import UserError
from tff_transfer.training import checkpoints, loop
from tff_transfer.training.config import Config, ModelConfig, TrainingConfig


@pytest.fixture
def data():
    return synthetic_writers.generate(6, 8, seed=1, classes=10)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))


def config(**model):
    return Config(
        model=ModelConfig(image_size=32, **model),
        training=TrainingConfig(
            rounds=2, clients_per_round=2, evaluate_every=2, server_optimizer='sgd'
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    'model',
    [
        {'finetune': 'all'},
        {'finetune': 'bias_norm'},
        {'finetune': 'adapters'},
        {'finetune': 'top', 'cut_layer': 'block_15_add'},
    ],
    ids=lambda model: model['finetune'],
)
def test_a_run_leaves_its_trained_weights(model, data, tmp_path):
    result = loop.train(config(**model), tmp_path / 'run', data=data)
    model = tf.saved_model.load(str(tmp_path / 'run' / 'model'))
    images = data.x[:5]
    logits = model(images)['logits'].numpy()
    initial = result.setup.model.functional.initial_weights[0]
    assert not all(
        np.array_equal(a, b) for a, b in zip(initial, result.weights, strict=True)
    )
    inputs = result.setup.transform(result.setup.data.x[:5])
    exported = tf.function(result.setup.model.logits)(result.weights, inputs)
    np.testing.assert_allclose(logits, exported, rtol=1e-4, atol=1e-4)
    rows = loop.evaluated_rows(result.setup)['unseen']
    right = model(data.x[rows])['logits'].numpy().argmax(axis=1) == data.y[rows]
    assert result.rows[-1]['unseen/accuracy'] == pytest.approx(right.mean())
    # What travels and what is kept is what is trained, four bytes each.
    sent = 4 * sum(w.size for w in result.weights)
    assert result.rows[-1]['bytes/down'] == 2 * sent
    (stored,) = (tmp_path / 'run' / 'checkpoints').glob('*.npz')
    assert checkpoints.rounds(stored.parent) == [2]
    kept = sum(array.nbytes for array in np.load(stored).values())
    assert sent <= kept < sent + 200


@pytest.mark.parametrize(
    ('model', 'part'),
    [
        ({'model': 'cnn', 'finetune': 'all'}, '--finetune=all is for --model=backbone'),
        ({'finetune': 'top'}, 'one of --cut_layer and --top_layers'),
        (
            {'finetune': 'top', 'cut_layer': 'x', 'top_layers': 2},
            'one of --cut_layer and --top_layers',
        ),
        ({'finetune': 'all', 'top_layers': 2}, 'are for --finetune=top'),
        ({'finetune': 'adapters', 'adapter_rank': 0}, '--adapter_rank'),
    ],
)
def test_what_does_not_fit_is_said(model, part):
    with pytest.raises(UserError, match=part):
        Config(model=ModelConfig(**model)).check()

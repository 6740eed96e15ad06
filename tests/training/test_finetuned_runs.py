"""Runs that fine-tune a backbone, to what they leave behind."""

import dataclasses

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
        ({'finetune': 'head_then_all'}, 'need each other'),
        ({'finetune': 'head_then_all', 'head_rounds': 150}, 'leaves none'),
        ({'finetune': 'adapters', 'adapter_rank': 0}, '--adapter_rank'),
    ],
)
def test_what_does_not_fit_is_said(model, part):
    with pytest.raises(UserError, match=part):
        Config(model=ModelConfig(**model)).check()


@pytest.mark.slow
def test_the_head_first_and_all_then(data, tmp_path):
    chosen = config(finetune='head_then_all', head_rounds=2)
    training = dataclasses.replace(chosen.training, rounds=3)
    chosen = dataclasses.replace(chosen, training=training)
    whole = loop.train(chosen, tmp_path / 'run', data=data)
    head, together = whole.rows[1]['bytes/down'], whole.rows[3]['bytes/down']
    assert whole.rows[2]['bytes/down'] == head == 2 * 4 * (1280 * 10 + 10)
    assert together == 2 * 4 * sum(w.size for w in whole.weights) > 10 * head
    # The third round starts from the second's head, of the same accuracy.
    rows = loop.evaluated_rows(whole.setup)['unseen']
    stages = loop._stages(chosen, whole.setup)
    done, state = checkpoints.load_newest(
        tmp_path / 'run' / 'checkpoints', stages[0].process.initialize(), range(1, 3)
    )
    assert done == 2
    second = stages[0].weights(state)
    started = stages[1].weights(stages[1].after(second))
    found = stages[1].evaluator(started, rows)
    assert found['loss'] == pytest.approx(whole.rows[2]['unseen/loss'], rel=1e-4)
    # A run that was killed in the third round goes on to the same weights.
    (tmp_path / 'run' / 'checkpoints' / 'round_000003.npz').unlink()
    again = loop.train(chosen, tmp_path / 'run', data=data)
    for ours, theirs in zip(whole.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)

"""Clients of different architectures in one run."""

import dataclasses
import re

import killing
import numpy as np
import pytest
import tensorflow as tf
import walks
from test_loop import CLASSES, SIZE, make_config, make_data

from tff_transfer import models
from tff_transfer.algorithms import registry
from tff_transfer.data import synthetic_writers
from tff_transfer.errors import UserError
from tff_transfer.models import several
from tff_transfer.training import architectures, baselines, exports, loop
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig

slow = pytest.mark.slow
WANTED = ('mlp', 'mlp:6', 'mlp:4-3')


def config(name, wanted=WANTED, **training):
    if name in registry.BY_OWN_MODELS:
        training = {'baselines': False, 'adaptation_epochs': (2,), **training}
    given = {'server_optimizer': 'adam', 'server_learning_rate': 0.02, **training}
    made = make_config(checkpoint_every=1, **given)
    return dataclasses.replace(
        made,
        model=ModelConfig('several', architectures=wanted),
        algorithm=registry.options(name)(),
    )


def test_weights_say_which_of_several_networks_it_is():
    members = [models.mlp((2,), 3, (4,)), models.mlp((3,), 3, (5, 2), seed=1)]
    views = [several.View(0, (2,)), several.View(1, (3,))]
    rows = tf.random.stateless_normal([7, 4], [0, 1])
    made = several.together(members, views, 4)
    for number, columns in enumerate((slice(0, 2), slice(1, 4))):
        started = several.started_as(made, number)
        own = (
            members[number]
            .logits(members[number].initial_weights, rows[:, columns])
            .numpy()
        )
        weights = tuple(map(tf.constant, started.initial_weights))
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits = started.logits(weights, rows)
        np.testing.assert_array_equal(logits, own)
        which, flat = tape.gradient(logits, weights)
        assert which is None
        size = sum(weight.size for weight in members[number].initial_weights)
        moved = np.flatnonzero(flat)
        assert moved.max() < size <= len(flat) == 3 * 5 + 5 + 12 + 9


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ('cnn', ('cnn', None, ())),
        ('mlp:64-32', ('mlp', None, (64, 32))),
        ('embedded', ('embedded', None, ())),
        ('embedded@6:8', ('embedded', '6', (8,))),
        ('https://a.b/c/4@block_2_add:9', ('https://a.b/c/4', 'block_2_add', (9,))),
    ],
)
def test_forms_of_architectures(text, found):
    assert architectures.parsed(text) == found


@pytest.mark.parametrize('text', ['', 'cnn:8', 'mlp@3', 'mlp:0', 'embedded:8-0'])
def test_other_forms_are_refused(text):
    with pytest.raises(UserError, match=f'has {re.escape(repr(text))}, but must be of'):
        architectures.parsed(text)


@pytest.mark.parametrize(
    ('name', 'model', 'words'),
    [
        ('fedavg', {'architectures': ()}, '--algorithm=fedavg averages weights'),
        ('fedmd', {'architectures': ()}, 'needs --architectures, such as'),
        ('fedmd', {'model': 'mlp'}, 'is for --model=several, but --model is mlp'),
        ('fedmd', {'hidden_units': (3,)}, '--hidden_units is for --model='),
    ],
)
def test_what_does_not_go_with_several_architectures(name, model, words):
    made = config(name)
    chosen = dataclasses.replace(made.model, **model)
    with pytest.raises(UserError, match=words):
        dataclasses.replace(made, model=chosen).check()


def test_heads_and_cnns_are_not_for_vectors():
    with pytest.raises(UserError, match='vectors, no images, but --architectures has'):
        loop.train(config('local', ('mlp', 'cnn')), data=make_data())


@slow
def test_clients_alone_train_as_if_all_had_their_architecture():
    data = make_data()
    found = loop.train(config('local'), data=data)
    for number, units in enumerate(((), (6,), (4, 3))):
        alike = dataclasses.replace(
            config('local'), model=ModelConfig('mlp', hidden_units=units)
        )
        expected = loop.train(alike, data=data)
        for client in range(number, len(data), 3):
            name = data.client_ids[client]
            which, flat = found.weights_of(name)
            np.testing.assert_array_equal(which, np.eye(3)[number])
            own = np.concatenate([np.ravel(w) for w in expected.weights_of(name)])
            assert np.abs(own - flat[: len(own)]).max() < 1e-6
            assert not flat[len(own) :].any()
            assert np.abs(own).max() > 0.1
    assert len(flat) == (SIZE + 1) * 6 + 7 * CLASSES


@slow
@pytest.mark.parametrize('name', walks.over(registry.BY_ANSWERS, ['feddistill']))
def test_killed_runs_of_several_architectures_go_on(name, tmp_path, monkeypatch):
    made, data = config(name), make_data()
    whole = loop.train(made, data=data)
    killing.at(monkeypatch, 3)
    with pytest.raises(killing.Killed):
        loop.train(made, tmp_path / 'run', data=data)
    resumed = loop.train(made, tmp_path / 'run', data=data)
    assert resumed.per_client == whole.per_client
    for ours, theirs in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    other = config(name, ('mlp', 'mlp:6', 'mlp:5'))
    with pytest.raises(UserError, match='architectures'):
        loop.train(other, tmp_path / 'run', data=data)


@slow
@pytest.mark.walk
def test_baselines_of_one_model_are_of_the_first_architecture(monkeypatch):
    monkeypatch.setattr(baselines, 'RATE_DIVISORS', (1,))
    data = make_data()
    found = loop.train(
        config('local', baselines=True, rounds=1), data=data
    ).personalization
    alike = dataclasses.replace(
        config('local', baselines=True, rounds=1), model=ModelConfig('mlp')
    )
    expected = loop.train(alike, data=data).personalization
    for name in ('global', 'central', 'alone'):
        np.testing.assert_allclose(found.values[name], expected.values[name])
    assert not np.array_equal(found.values['personal'], expected.values['personal'])


@slow
@pytest.mark.walk
def test_networks_and_heads_of_images_side_by_side_are_exported(tmp_path):
    data = synthetic_writers.generate(8, 12, seed=0, classes=10, test_fraction=0.25)
    names = data.client_ids[:4]
    made = config(
        'fedmd',
        ('cnn', 'mlp:8', 'embedded', 'embedded@6:8'),
        rounds=1,
        clients_per_round=3,
        export_client=names,
    )
    made = dataclasses.replace(made, data=DataConfig(unseen_fraction=0.25))
    result = loop.train(made, tmp_path, data=data)
    judged = {}
    for found in result.predictions.values():
        judged |= dict(zip(found.rows, found.predicted, strict=True))
    for client, name in enumerate(names):
        model = tf.saved_model.load(str(exports.client_model(tmp_path, name)))
        rows = [row for row in judged if data.client_of_row[row] == client]
        logits = model(data.x[rows])['logits']
        expected = [judged[row] for row in rows]
        np.testing.assert_array_equal(np.argmax(logits, axis=1), expected)
        assert len(rows) >= 3

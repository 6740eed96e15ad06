"""Generative models as runs: both runtimes, killed, and started from another run."""

import dataclasses

import killing
import numpy as np
import pytest
import tensorflow as tf
import walks

from tff_transfer.algorithms import registry
from tff_transfer.algorithms.teachers import Pretrained
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

CLIENTS, TRAIN, TEST, SHAPE, CLASSES, COHORT = 6, 7, 2, (6, 7, 1), 3, 3
MODELS = {
    'cvae': ModelConfig('cvae', latent_size=2),
    'diffusion': ModelConfig('diffusion', noise_steps=20, sampling_steps=2),
}
slow = pytest.mark.slow


def make_data():
    draw = np.random.default_rng(0)
    rows = CLIENTS * (TRAIN + TEST)
    y = draw.integers(0, CLASSES, rows).astype(np.int32)
    x = np.zeros((rows, *SHAPE), np.uint8)
    x[np.arange(rows), 2 * y] = draw.integers(100, 256, (rows, *SHAPE[1:]))
    names = tuple(f'client {i}' for i in range(CLIENTS))
    sizes = np.full(CLIENTS, TRAIN), np.full(CLIENTS, TEST)
    return FederatedData('stripes', x, y, names, *sizes, CLASSES)


def config(name, model=None, **training):
    given = {
        'rounds': 3,
        'clients_per_round': COHORT,
        'batch_size': 3,
        'client_optimizer': 'adam',
        'client_learning_rate': 0.003,
        'server_optimizer': 'sgd',
        'server_learning_rate': 1.0,
        'evaluate_every': 1,
        'checkpoint_every': 1,
    }
    return Config(
        DataConfig(unseen_fraction=0.2),
        dataclasses.replace(MODELS[name], **(model or {})),
        TrainingConfig(**{**given, **training}),
    )


def weights_in(run_dir):
    with np.load(run_dir / 'weights.npz') as file:
        return dict(file)


@pytest.fixture(scope='module', params=walks.over(MODELS, ['cvae']))
def first(request, tmp_path_factory):
    """A model's name, the directory of its run, and the result."""
    run_dir = tmp_path_factory.mktemp(request.param) / 'run'
    return request.param, loop.train(config(request.param), run_dir, data=make_data())


@slow
def test_what_is_exported_generates(first):
    _, result = first
    assert result.rows[-1]['unseen/loss'] < result.rows[0]['unseen/loss']
    module = tf.saved_model.load(str(result.run_dir / 'model'))
    labels, key = tf.constant([2, 0, 1, 1], tf.int32), tf.constant([4, 5], tf.int32)
    images = module(labels, key)['images']
    assert images.shape == (4, *SHAPE)
    served = module.signatures['serving_default'](labels=labels, key=key)['images']
    made = result.setup.model.generate(
        list(map(tf.constant, result.weights)), labels, key
    )
    for found in (served, made):
        np.testing.assert_allclose(found, images, atol=1e-5)


@slow
def test_a_killed_run_goes_on_to_the_same_bits(first, tmp_path, monkeypatch):
    name, whole = first
    seen = killing.at(monkeypatch, 2)
    with pytest.raises(killing.Killed):
        loop.train(config(name), tmp_path / 'run', data=make_data())
    resumed = loop.train(config(name), tmp_path / 'run', data=make_data())
    assert seen == [1, 2, 2, 3]
    for ours, theirs in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert resumed.per_client == whole.per_client
    files = weights_in(tmp_path / 'run'), weights_in(whole.run_dir)
    assert files[0].keys() == files[1].keys()
    for key, array in files[0].items():
        np.testing.assert_array_equal(array, files[1][key])


@slow
def test_both_runtimes_come_to_the_same(first):
    name, whole = first
    stock = loop.train(config(name, runtime='stock'), data=make_data())
    losses = [row['train/loss'] for row in whole.rows[1:]]
    found = [row['train/loss'] for row in stock.rows[1:]]
    assert found == pytest.approx(losses, rel=1e-4)
    before = whole.setup.model.initial_weights
    for ours, theirs, start in zip(whole.weights, stock.weights, before, strict=True):
        moved = np.abs(theirs - start).max()
        np.testing.assert_allclose(ours, theirs, atol=2e-2 * moved)


@slow
def test_frozen_parts_stay_and_do_not_travel(first, tmp_path):
    name, source = first
    frozen = {'cvae': ('encoder',), 'diffusion': ('embedding', 'down')}[name]
    more = {'start_from': str(source.run_dir), 'frozen_parts': frozen}
    result = loop.train(config(name, more), tmp_path / 'run', data=make_data())
    # It begins as the other ended.
    assert result.rows[0]['unseen/loss'] == source.rows[-1]['unseen/loss']
    assert result.rows[-1]['unseen/loss'] != result.rows[0]['unseen/loss']
    before, after = weights_in(source.run_dir), weights_in(tmp_path / 'run')
    same = {key for key in before if np.array_equal(before[key], after[key])}
    assert same == keys_of(source.setup.model, frozen)
    sent = sum(array.size for key, array in after.items() if key not in same)
    whole = sum(array.size for array in after.values())
    assert 0 < sent < whole
    row, of_all = result.rows[-1], source.rows[-1]
    assert row['bytes/down'] == COHORT * 4 * sent
    # Its weight in the mean goes up too.
    assert of_all['bytes/up'] - row['bytes/up'] == COHORT * 4 * (whole - sent)
    for checkpoint in (tmp_path / 'run' / 'checkpoints').glob('*.npz'):
        assert checkpoint.stat().st_size < 4 * whole

    # What it exported can be started from in its turn, and generates as it does.
    more = {'start_from': str(tmp_path / 'run' / 'weights.npz')}
    third = loop.train(config(name, more, rounds=0), data=make_data())
    assert third.rows[0]['unseen/loss'] == result.rows[-1]['unseen/loss']
    labels, key = tf.constant([0, 1, 2]), tf.constant([1, 2])
    made = [
        each.setup.model.generate(list(map(tf.constant, each.weights)), labels, key)
        for each in (result, third)
    ]
    np.testing.assert_allclose(made[0], made[1], atol=1e-6)


def keys_of(model, parts):
    """Returns the keys of some parts' arrays in `weights.npz`."""
    return {
        f'{name}/{place}'
        for name, network in model.networks.items()
        for place, layer in enumerate(
            layer for layer in network.layers for _ in layer.weights
        )
        if layer.name.startswith(parts)
    }


@slow
@pytest.mark.walk
def test_distillation_holds_what_is_generated_near_the_start(first):
    name, source = first
    apart, weights = {}, {}
    rate, held = {'cvae': (0.001, 20.0), 'diffusion': (0.005, 5.0)}[name]
    sgd = {'client_optimizer': 'sgd', 'client_learning_rate': rate, 'rounds': 2}
    for weight in (None, 0.0, held):
        more = {'start_from': str(source.run_dir)}
        made = config(name, more, **sgd)
        if weight is not None:
            made = dataclasses.replace(made, distill_from=Pretrained(weight))
        result = loop.train(made, data=make_data())
        weights[weight] = result.weights
        if weight is not None:
            assert result.rows[0]['unseen/distillation'] == 0
            apart[weight] = result.rows[-1]['unseen/distillation']
    for ours, theirs in zip(weights[None], weights[0.0], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert 0 < apart[held] < apart[0.0] / 2


def refused(name, match, model=None, **training):
    with pytest.raises(UserError, match=match) as raised:
        loop.train(config(name, model, **training), data=make_data())
    assert '\n' not in str(raised.value)


@slow
def test_what_cannot_be_started_from_is_refused(first, tmp_path):
    name, source = first
    other = {'cvae': {'latent_size': 3}, 'diffusion': {}}[name]
    start = {'start_from': str(source.run_dir)}
    if other:
        said = r'another architecture: encoder/6 is of shape \(128, 4\), but in this'
        refused(name, said, {**start, **other})
    unlike = {'cvae': 'diffusion', 'diffusion': 'cvae'}[name]
    refused(unlike, 'another architecture: .* is absent', start)
    refused(name, 'no such file', {'start_from': str(tmp_path)})
    refused(
        name, "no part 'head' to freeze; it has", {**start, 'frozen_parts': ('head',)}
    )
    parts = tuple(source.setup.model.parts)
    refused(name, 'all are frozen', {**start, 'frozen_parts': parts})
    arrays = weights_in(source.run_dir)
    key = next(iter(arrays))
    arrays[key] = np.full_like(arrays[key], np.nan)
    np.savez(tmp_path / 'weights.npz', **arrays)
    refused(name, 'not finite', {'start_from': str(tmp_path)})


@pytest.mark.parametrize(
    ('model', 'training', 'said'),
    [
        ({'frozen_parts': ('encoder',)}, {}, '--frozen_parts is for --start_from'),
        ({}, {'export_keras': True}, '--export_keras writes what maps'),
        ({}, {'tflite': True}, '--tflite writes what maps'),
        ({'noise_steps': 5}, {}, '--noise_steps is for --model=diffusion'),
    ],
)
def test_flags_without_effect_are_refused(model, training, said):
    with pytest.raises(UserError, match=said):
        config('cvae', model, **training).check()


def test_a_method_of_classes_is_refused():
    chosen = registry.options('fedntd')()
    made = dataclasses.replace(config('cvae'), algorithm=chosen)
    with pytest.raises(UserError, match='--algorithm=fedntd is for models that tell'):
        made.check()


@pytest.mark.parametrize(
    ('model', 'teacher', 'said'),
    [
        ({}, Pretrained(), '--distill_from=pretrained is for --start_from'),
        ({'start_from': 'x'}, Pretrained(distance='cosine'), 'has --pretrained.weight'),
    ],
)
def test_a_teacher_is_what_is_started_from(model, teacher, said):
    made = dataclasses.replace(config('cvae', model), distill_from=teacher)
    with pytest.raises(UserError, match=said):
        made.check()

"""Every choice that a flag lists runs, or is refused in one line that says why."""

import dataclasses
import json

import numpy as np
import pytest
import walks
from test_finetuned_runs import small_network

from tff_transfer import backbones
from tff_transfer.data import synthetic_writers
from tff_transfer.errors import UserError
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

PARTS = {'data': DataConfig, 'model': ModelConfig, 'training': TrainingConfig}
# Every choice of these runs in test_finetuned_runs.py, or those of generative models
# in tests of their own.
ELSEWHERE = (
    *('finetune', 'batch_norm', 'unseen_statistics'),
    *('gan_loss', 'noise_schedule'),
)
# The others are dealt with the choices of a backbone's head and cache.
MODELS = ('cnn', 'mlp')
# Only for GPUs, or where there is a cluster.
REFUSED = (('compute_dtype', 'float16'), ('runtime', 'cluster'))


def dealt(part):
    """Deals a part's choices to as few runs as the longest list of them needs."""
    found = {
        field.name: [
            c for c in field.metadata['choices'] if (field.name, c) not in REFUSED
        ]
        for field in dataclasses.fields(PARTS[part])
        if field.metadata['choices'] and field.name not in (*ELSEWHERE, 'model')
    }
    runs = [{} for _ in range(max(map(len, found.values())))]
    for place, (name, choices) in enumerate(found.items()):
        for number, choice in enumerate(choices):
            # Five apart, adafactor meets no schedule, which it does not take.
            runs[(5 * place + number) % len(runs)][name] = choice
    return [(part, run) for run in runs]


RUNS = [
    *(run for part in PARTS for run in dealt(part)),
    *(('model', {'model': choice}) for choice in MODELS),
]
# What some choices need besides.
NEEDS = {
    ('dataset', 'by_client'): {'data_path': 'clients.npz'},
    ('dataset', 'synthetic_writers'): {'num_writers': 4, 'examples_per_writer': 9},
    ('dataset', 'synthetic_alpha_beta'): {'num_writers': 4},
    ('dataset', 'lung_phantoms'): {'num_writers': 4, 'examples_per_writer': 9},
}
SMALL_BACKBONE = {
    'backbone': 'MobileNetV2_035',
    'backbone_weights': 'random',
    'image_size': 32,
}


def small_data():
    return synthetic_writers.generate(4, 10, seed=0, classes=10)


def config_of(part, choices):
    """Returns the smallest run with a part's choices."""
    values = {'data': {}, 'model': {'model': 'mlp'}, 'training': {}}
    if part == 'model' and choices.get('model', 'backbone') == 'backbone':
        values['model'] = dict(SMALL_BACKBONE)
    values[part] |= choices
    for chosen in choices.items():
        values[part] |= NEEDS.get(chosen, {})
    values['training'] |= {'rounds': 2, 'clients_per_round': 2}
    return Config(**{part: PARTS[part](**given) for part, given in values.items()})


@pytest.mark.slow
@pytest.mark.parametrize(
    ('part', 'choices'),
    RUNS,
    ids=lambda it: it if isinstance(it, str) else '-'.join(it.values()),
)
def test_every_choice_runs(part, choices, tmp_path, monkeypatch):
    if choices.get('dataset') == 'emnist':
        pytest.skip('TFF would download it')
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.chdir(tmp_path)
    data = small_data()
    if choices.get('dataset') == 'by_client':
        clients = np.repeat(np.arange(4), 10)
        np.savez('clients.npz', x=data.x, y=data.y, client=clients)
    given = None if part == 'data' else data
    result = loop.train(config_of(part, choices), data=given)
    assert np.isfinite(result.rows[-1]['unseen/loss'])


def test_float16_is_refused_where_it_is_slow():
    (name, choice), _ = REFUSED
    with pytest.raises(UserError, match='compute_dtype is float16'):
        loop.train(config_of('training', {name: choice}), data=small_data())


@pytest.mark.slow
@pytest.mark.parametrize(
    'finetune', walks.over(['top', 'head_then_all'], ['head_then_all'])
)
def test_what_was_left_open_is_recorded_and_resumes(finetune, tmp_path, monkeypatch):
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))
    if finetune == 'head_then_all':  # It hangs on rounds, not on the network.
        load, network = backbones.load, small_network()
        monkeypatch.setattr(backbones, 'load', lambda *_, **named: load(network))
    config = config_of('model', {'finetune': finetune})
    data = small_data()
    result = loop.train(config, tmp_path / 'run', data=data)
    stored = json.loads((tmp_path / 'run' / 'config.json').read_text())['model']
    expected = {'top': (6, None), 'head_then_all': (None, 1)}[finetune]
    assert (stored['top_layers'], stored['head_rounds']) == expected
    again = loop.train(config, tmp_path / 'run', data=data)
    for one, two in zip(result.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_adafactor_runs_on_both_sides():
    config = config_of('training', {'client_optimizer': 'adafactor'})
    training = dataclasses.replace(config.training, server_optimizer='adafactor')
    config = dataclasses.replace(config, training=training)
    data = small_data()
    result = loop.train(config, data=data)
    assert result.rows[-1]['train/clients'] == 2
    assert all(weight.any() for weight in result.weights)  # They began at zero.

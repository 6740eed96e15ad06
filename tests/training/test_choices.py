"""Every choice that a flag lists runs, or is refused in one line that says why."""

import dataclasses
import json

import numpy as np
import pytest

from tff_transfer.data import synthetic_writers
from tff_transfer.errors import UserError
from tff_transfer.training import loop
from tff_transfer.training.config import Config, DataConfig, ModelConfig, TrainingConfig

PARTS = {'data': DataConfig, 'model': ModelConfig, 'training': TrainingConfig}
# Every choice of these runs in test_finetuned_runs.py.
ELSEWHERE = ('finetune', 'batch_norm', 'unseen_statistics')
CHOICES = [
    (part, field.name, choice)
    for part, cls in PARTS.items()
    for field in dataclasses.fields(cls)
    if field.name not in ELSEWHERE
    for choice in field.metadata['choices'] or ()
]
# What some choices need besides.
NEEDS = {
    ('dataset', 'by_client'): {'data_path': 'clients.npz'},
    ('dataset', 'synthetic_writers'): {'num_writers': 4, 'examples_per_writer': 9},
    ('dataset', 'synthetic_alpha_beta'): {'num_writers': 4},
}
SMALL_BACKBONE = {
    'backbone': 'MobileNetV2_035',
    'backbone_weights': 'random',
    'image_size': 32,
}


def config_of(part, name, choice):
    """Returns the smallest run with a choice."""
    values = {'data': {}, 'model': {}, 'training': {}}
    if part == 'model' and name != 'model' or choice == 'backbone':
        values['model'] |= SMALL_BACKBONE
    elif name != 'model':
        values['model']['model'] = 'mlp'
    values[part] |= {name: choice, **NEEDS.get((name, choice), {})}
    values['training'] |= {'rounds': 2, 'clients_per_round': 2}
    return Config(**{part: PARTS[part](**given) for part, given in values.items()})


@pytest.mark.slow
@pytest.mark.parametrize(('part', 'name', 'choice'), CHOICES)
def test_every_choice_runs(part, name, choice, tmp_path, monkeypatch):
    if choice == 'emnist':
        pytest.skip('TFF would download it')
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))
    monkeypatch.chdir(tmp_path)
    config = config_of(part, name, choice)
    data = synthetic_writers.generate(4, 10, seed=0, classes=10)
    if choice == 'by_client':
        clients = np.repeat(np.arange(4), 10)
        np.savez('clients.npz', x=data.x, y=data.y, client=clients)
    if choice == 'float16' and name == 'compute_dtype':
        with pytest.raises(UserError, match='compute_dtype is float16'):
            loop.train(config, data=data)
        return
    given = None if name == 'dataset' else data
    result = loop.train(config, data=given)
    assert np.isfinite(result.rows[-1]['unseen/loss'])


@pytest.mark.slow
@pytest.mark.parametrize('finetune', ['top', 'head_then_all'])
def test_what_was_left_open_is_recorded_and_resumes(finetune, tmp_path, monkeypatch):
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))
    config = config_of('model', 'finetune', finetune)
    data = synthetic_writers.generate(4, 10, seed=0, classes=10)
    result = loop.train(config, tmp_path / 'run', data=data)
    stored = json.loads((tmp_path / 'run' / 'config.json').read_text())['model']
    expected = {'top': (6, None), 'head_then_all': (None, 1)}[finetune]
    assert (stored['top_layers'], stored['head_rounds']) == expected
    again = loop.train(config, tmp_path / 'run', data=data)
    for one, two in zip(result.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, two)


def test_adafactor_runs_on_both_sides():
    config = config_of('training', 'client_optimizer', 'adafactor')
    training = dataclasses.replace(config.training, server_optimizer='adafactor')
    config = dataclasses.replace(config, training=training)
    data = synthetic_writers.generate(4, 10, seed=0, classes=10)
    result = loop.train(config, data=data)
    assert result.rows[-1]['train/clients'] == 2
    assert all(weight.any() for weight in result.weights)  # They began at zero.

"""For whom joining pays, small: rates by held-out examples, and the table by hand."""

import dataclasses

import numpy as np
import pytest

from experiments import personalization
from tff_transfer.data import validation
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

CLIENTS, TRAIN, TEST, SIZE, CLASSES = 8, 15, 6, 5, 3
CONFIG = Config(
    DataConfig(unseen_fraction=0.25),
    ModelConfig('mlp', hidden_units=(4,)),
    TrainingConfig(rounds=3, clients_per_round=3),
)


def make_data():
    draw = np.random.default_rng(0)
    rows = CLIENTS * (TRAIN + TEST)
    y = draw.integers(0, CLASSES, rows).astype(np.int32)
    x = draw.normal(size=(rows, SIZE)) + draw.normal(size=(CLASSES, SIZE))[y]
    return FederatedData(
        'toy',
        x.astype(np.float32),
        y,
        tuple(map(str, range(CLIENTS))),
        np.full(CLIENTS, TRAIN),
        np.full(CLIENTS, TEST),
        CLASSES,
    )


def held_out(data):
    return validation.held_out(data, range(CLIENTS), fraction=0.2, seed=0)


@pytest.mark.slow
@pytest.mark.walk
def test_no_label_of_a_test_example_chooses_a_rate(tmp_path):
    data = make_data()
    others = (data.y + 1) % CLASSES
    changed = dataclasses.replace(data, y=np.where(data.is_train, data.y, others))
    chosen = [
        personalization.best_rate(CONFIG, 'ditto', held_out(each), tmp_path / name)
        for name, each in (('a', data), ('b', changed))
    ]
    assert chosen[0] == chosen[1] in personalization.RATES
    found = [sorted(p.name for p in (tmp_path / name).iterdir()) for name in 'ab']
    assert found[0] == found[1] == ['rate-ditto-0.05', 'rate-ditto-0.2']
    rows = [(tmp_path / name / 'rate-ditto-0.2/metrics.csv') for name in 'ab']
    seen = [path.read_text().splitlines()[-1].split(',')[5:8] for path in rows]
    assert seen[0] == seen[1]


@pytest.mark.slow
def test_the_table_has_the_other_models_and_each_method():
    data = make_data()
    first = loop.train(
        personalization.configured(CONFIG, 'fedavgft', 0.2, adaptation_epochs=(1,)),
        data=data,
    )
    ditto = loop.train(
        personalization.configured(CONFIG, 'ditto', 0.2, baselines=False), data=data
    )
    found = {
        'fedavgft': [first.personalization],
        'ditto': [personalization.with_models_of(first.personalization, ditto)],
    }
    table = personalization.rows(found, {'ditto': '1.00'})
    assert [line[0] for line in table[1:]] == [
        'global', 'alone', 'central', 'fedavgft', 'ditto',
    ]  # fmt: skip
    line = dict(zip(table[0], table[-1], strict=True))
    of_clients = {
        part: np.array([*each.values()]) for part, each in ditto.per_client.items()
    }
    for part, values in of_clients.items():
        assert line[f'{part}: mean'] == f'{100 * np.mean(values):.1f}'
        assert line[f'{part}: spread'] == f'{100 * np.std(values):.1f}'
        # A tenth of eight clients is one.
        assert line[f'{part}: worst tenth'] == f'{100 * min(values):.1f}'
    values = found['fedavgft'][0].values
    better = np.maximum(values['global'], values['alone'])[~first.personalization.seen]
    hurt = np.mean(of_clients['unseen'] < better)
    assert line['hurt, unseen'] == f'{100 * hurt:.1f}'
    assert line['MB up'] == '1.00'
    assert personalization.over_seeds([0.5, 0.7]) == '60.0 ± 10.0'
    personalization.drawn(found)


def test_examples_without_clients_are_dealt_out(tmp_path):
    draw, path = np.random.default_rng(0), tmp_path / 'some.npz'
    arrays = {}
    for part, count in (('train', 60), ('test', 20)):
        arrays[f'x_{part}'] = draw.integers(0, 255, (count, 8, 8), np.uint8)
        arrays[f'y_{part}'] = draw.integers(0, 3, count)
    np.savez(path, **arrays)
    config = Config(DataConfig('by_client', str(path)))
    found = personalization.load(config, 4, 1.0)
    assert len(found) == 4
    assert found.num_train.sum() == 60 and found.num_test.sum() == 20
    np.savez(path, x=arrays['x_train'])
    with pytest.raises(UserError, match='npz file of x_train, y_train'):
        personalization.load(config, 4, 1.0)


@pytest.mark.parametrize('name', personalization.METHODS)
def test_each_method_takes_what_the_study_gives(name):
    epochs = personalization.epochs_of(name, (1, 5))
    personalization.configured(Config(), name, 0.1, **epochs).check()

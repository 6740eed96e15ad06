"""Runs that diverge say so, and a cell without a value stays empty."""

import dataclasses

import numpy as np
import pytest
from absl import logging
from test_finetuned_runs import small_network
from test_loop import CLIENTS, TEST, TRAIN, make_config, make_data

from tff_transfer import backbones
from tff_transfer.data import synthetic_writers
from tff_transfer.data.cohorts import choose_clients
from tff_transfer.data.federated import split_clients
from tff_transfer.errors import UserError
from tff_transfer.records import metrics
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig


def scaled(data, factor, clients=slice(None)):
    """Returns data in which the inputs of some clients are scaled."""
    chosen = np.arange(len(data))[clients]
    x = data.x.copy()
    x[np.isin(data.client_of_row, chosen)] *= np.float32(factor)
    return data.with_x(x)


@pytest.fixture
def warnings(monkeypatch):
    """The lines that are logged as warnings."""
    said = []
    monkeypatch.setattr(
        logging, 'warning', lambda text, *values: said.append(text % values)
    )
    return said


def test_a_run_whose_updates_are_all_dropped_stops_with_its_row(tmp_path, warnings):
    config, data = make_config(), scaled(make_data(), 1e30)
    message = (
        'round 1 diverged: the updates of all 3 clients were dropped, as they were not'
        ' finite; check the inputs, or lower --client_learning_rate (0.1 now) or'
        ' --server_learning_rate (1 now), or go on all the same with'
        ' --on_divergence=continue'
    )
    for _ in range(2):  # The second time it goes on with the run that stopped.
        with pytest.raises(UserError) as caught:
            loop.train(config, tmp_path / 'run', data=data)
        assert str(caught.value) == message
        rows = metrics.read(tmp_path / 'run' / 'metrics.csv')
        assert [row['round'] for row in rows] == [0, 1]
        assert (rows[1]['train/clients'], rows[1]['train/dropped_clients']) == (0, 3)
        assert rows[1]['train/loss'] is rows[1]['train/accuracy'] is None
        assert 'round 1 diverged' in (tmp_path / 'run' / 'report.html').read_text()
    assert not (tmp_path / 'run' / 'model').exists()
    assert not warnings


def test_a_run_that_is_to_go_on_says_it_once(tmp_path, warnings):
    config = make_config(on_divergence='continue')
    result = loop.train(config, tmp_path / 'run', data=scaled(make_data(), 1e30))
    assert [row['round'] for row in result.rows] == [0, 1, 2, 3, 4]
    (said,) = warnings
    assert said.startswith('round 1 diverged')
    assert 'round 1 diverged' in (tmp_path / 'run' / 'report.html').read_text()
    assert (tmp_path / 'run' / 'model').is_dir()


def test_a_step_of_the_server_that_is_not_finite_stops_a_run():
    config = make_config(client_learning_rate=1e30, server_optimizer='adam')
    with pytest.raises(UserError, match='round 1 diverged: the updates of all 3'):
        loop.train(config, data=make_data())


def test_a_model_that_starts_without_a_finite_loss_is_not_trained(tmp_path):
    config = make_config()
    hidden = ModelConfig(model='mlp', hidden_units=(4,))
    config = dataclasses.replace(config, model=hidden)
    message = 'round 0 diverged: seen/loss is (nan|inf); check the inputs and the w'
    with pytest.raises(UserError, match=message):
        loop.train(config, tmp_path / 'run', data=scaled(make_data(), 1e38))
    rows = metrics.read(tmp_path / 'run' / 'metrics.csv')
    assert [row['round'] for row in rows] == [0]


def test_some_dropped_updates_are_counted_and_the_others_used(warnings):
    clean = loop.train(make_config(rounds=1, clients_per_round=8), data=make_data())
    bad = clean.setup.seen[:2]
    data = scaled(make_data(), 1e30, bad)
    config = make_config(rounds=1, clients_per_round=8, on_divergence='continue')
    result = loop.train(config, data=data)
    row = result.rows[1]
    assert (row['train/clients'], row['train/dropped_clients']) == (6, 2)
    assert row['train/loss'] == pytest.approx(np.log(3), abs=0.1)
    assert all(np.isfinite(weight).all() for weight in result.weights)
    assert warnings[0].startswith('round 1: the updates of 2 of 8 clients were dropped')


@pytest.mark.parametrize(
    'runtime', ['compiled', pytest.param('stock', marks=pytest.mark.slow)]
)
def test_a_cohort_without_examples_leaves_its_cells_empty(runtime):
    data = make_data()
    # The client that has examples to train on is not in the first cohort.
    config = make_config(rounds=1, runtime=runtime)
    config = dataclasses.replace(
        config, training=dataclasses.replace(config.training, clients_per_round=1)
    )
    seen, _ = split_clients(CLIENTS, config.data.unseen_fraction)
    absent = np.delete(seen, choose_clients(len(seen), 1, seed=0, round_number=1))[0]
    some = np.zeros(CLIENTS, np.int64)
    some[absent] = TRAIN
    data = dataclasses.replace(data, num_train=some, num_test=TRAIN + TEST - some)
    result = loop.train(config, data=data)
    row = result.rows[1]
    assert row['train/loss'] is row['train/accuracy'] is None
    assert row['train/clients'] == row['train/dropped_clients'] == 0
    for weight in result.weights:
        np.testing.assert_array_equal(weight, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('policy', 'runtime'),
    [
        ('aggregate', 'stock'),
        pytest.param('local', 'compiled', marks=pytest.mark.walk),
        pytest.param('aggregate', 'compiled', marks=pytest.mark.walk),
        pytest.param('local', 'stock', marks=pytest.mark.walk),
    ],
)
def test_trained_batch_norm_drops_and_counts_too(
    policy, runtime, tmp_path, monkeypatch
):
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path))
    monkeypatch.setattr(
        loop, 'load_backbone', lambda config: backbones.load(small_network())
    )
    data = synthetic_writers.generate(6, 8, seed=1, classes=10)
    config = Config(
        model=ModelConfig(finetune='top', cut_layer='first', batch_norm=policy),
        training=TrainingConfig(
            rounds=1,
            clients_per_round=2,
            client_epochs=3,
            server_optimizer='sgd',
            runtime=runtime,
        ),
    )
    row = loop.train(config, data=data).rows[1]
    assert (row['train/clients'], row['train/dropped_clients']) == (2, 0)
    training = dataclasses.replace(config.training, client_learning_rate=1e38)
    config = dataclasses.replace(config, training=training)
    with pytest.raises(UserError, match='round 1 diverged: the updates of all 2 clie'):
        loop.train(config, data=data)

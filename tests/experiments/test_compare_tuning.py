"""Rates are chosen by validation clients, by as many trials for each method."""

import dataclasses

import numpy as np
import pytest

from experiments.compare import grid, search, tuning, worker
from tff_transfer import algorithms, files, options
from tff_transfer.data import by_client
from tff_transfer.data.federated import split_clients
from tff_transfer.errors import UserError
from tff_transfer.privacy.central import Central
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

CLIENTS, EACH = 20, 15


@pytest.fixture
def path(tmp_path):
    """Vectors of two classes, of 20 clients, as a file."""
    draw = np.random.default_rng(0)
    y = draw.integers(2, size=CLIENTS * EACH)
    x = draw.normal(size=[len(y), 4]) + y[:, None]
    client = np.repeat(np.arange(CLIENTS), EACH)
    tests = np.tile(np.arange(EACH) % 3 == 0, CLIENTS)
    write(tmp_path / 'a.npz', x, y, client, tests)
    unseen = np.isin(client, split_clients(CLIENTS, 0.25, 0)[1])
    write(tmp_path / 'b.npz', x, np.where(tests | unseen, 1 - y, y), client, tests)
    return tmp_path / 'a.npz'


def write(path, x, y, client, tests):
    parts = {'train': ~tests, 'test': tests}
    arrays = {'x': x.astype(np.float32), 'y': y, 'client': client}
    keys = [(name, part) for name in arrays for part in parts]
    np.savez(path, **{f'{n}_{part}': arrays[n][parts[part]] for n, part in keys})


def config_of(path, algorithm=None, **training):
    return Config(
        DataConfig('by_client', str(path), unseen_fraction=0.25),
        ModelConfig('mlp'),
        TrainingConfig(
            **{'rounds': 8, 'clients_per_round': 15, 'server_optimizer': 'sgd'}
            | training
        ),
        algorithm or algorithms.FedAvg(),
    )


def test_no_example_of_unseen_clients_and_no_test_example_is_in_trials(path):
    config = config_of(path)
    data = by_client.load(str(path))
    assert data.num_test.sum() == CLIENTS * EACH / 3
    found = tuning.data_of(config.data, config.model)
    seen, unseen = split_clients(CLIENTS, 0.25, 0)
    assert found.client_ids == tuple(data.client_ids[client] for client in seen)
    own = {row.tobytes() for row in found.x}
    there = [row.tobytes() in own for row in data.x]
    trained = data.is_train & ~np.isin(data.client_of_row, unseen)
    np.testing.assert_array_equal(there, trained)
    # A fifth of them validate, by two of their ten examples each.
    assert sorted(found.num_test) == [0] * 12 + [2] * 3
    _, validating = split_clients(15, 0.2, 0)
    np.testing.assert_array_equal(np.flatnonzero(found.num_test), validating)
    assert (found.num_train + found.num_test).tolist() == [10] * 15
    # Other labels of what is not in it change nothing.
    other = tuning.data_of(
        dataclasses.replace(config.data, data_path=str(path.with_name('b.npz'))),
        config.model,
    )
    assert other.content_fingerprint == found.content_fingerprint
    trial = tuning.trial(config, 2, len(found))
    assert trial.training.clients_per_round == 12  # The other three of 15 validate.
    assert trial.training.rounds == trial.training.evaluate_every == 2


class Here:
    """Does jobs in this process, and remembers what they were."""

    def __init__(self):
        self.jobs = []

    def do(self, jobs, said):
        self.jobs.append(jobs)
        return [worker.attempt(job) for job in jobs]


@pytest.mark.slow
def test_the_choice_does_not_move_with_test_labels(path, tmp_path):
    def chosen(name):
        arms = [grid.Arm('fedavg', (config_of(path.with_name(name)),))]
        pool = Here()
        folder = tmp_path / name.removesuffix('.npz')
        (found,) = search.chosen(arms, set(), 3, folder, pool)
        assert [len(jobs) for jobs in pool.jobs] == [3]
        again = Here()
        assert search.chosen(arms, set(), 3, folder, again) == [found]
        assert again.jobs == []  # All of them are known.
        return found

    assert chosen('a.npz') == chosen('b.npz')


class Told:
    """Scores trials by a function of their configurations and rounds."""

    def __init__(self, score):
        self.score = score

    def do(self, jobs, said):
        failed = []
        for job in jobs:
            config = options.from_dict(Config, job['config'])
            found = self.score(config, job['rounds'])
            failed.append('' if found is not None else 'it diverged')
            if found is not None:
                files.write_text(job['place'], f'{{"score": {found}}}')
        return failed


def test_the_best_of_the_last_rung_is_chosen(tmp_path):
    arms = [
        grid.Arm(name, (config_of('mine.npz', options),))
        for name, options in (
            ('fedavg', algorithms.FedAvg()),
            ('fedprox', algorithms.FedProx()),
            ('ridge', algorithms.Ridge()),
            ('scaffold', algorithms.Scaffold()),
        )
    ]

    def score(config, rounds):
        rate = config.training.client_learning_rate
        if isinstance(config.algorithm, algorithms.Scaffold):
            return None  # Each of its trials fails.
        # High rates are good for a few rounds, and low ones for many.
        return rate if rounds == 2 else -rate

    found = search.chosen(arms, set(), 8, tmp_path, Told(score))
    tried = tuning.points(tuning.space(arms[0].configs[0], set()), 8)
    rates = sorted(values['client_learning_rate'] for values in tried)
    assert found[0].values == {
        'client_learning_rate': rates[-2],  # The lower of the two that went on.
        'server_learning_rate': 1.0,
    }
    assert found[0].score == -rates[-2]
    assert set(found[1].values) == {*found[0].values, 'fedprox.mu'}
    assert [each.trials for each in found] == [8, 8, 0, 8]
    assert found[2] == search.Tuned()
    assert found[3].failed == 'in each trial: it diverged'


def test_points_are_spread_and_stay_where_they_are():
    bounds = {'a': (0.01, 1.0), 'b': (1.0, 1.0), 'c': (1.0, 1000.0)}
    found = tuning.points(bounds, 64)
    assert found[:8] == tuning.points(bounds, 8)
    assert {point['b'] for point in found} == {1.0}
    for name, low, decades in (('a', -2, 2), ('c', 0, 3)):
        places = (np.log10([point[name] for point in found]) - low) / decades
        # An eighth of the points in each eighth of the range, or nearly so.
        counts, _ = np.histogram(places, 8, (0, 1))
        assert counts.min() >= 6 and counts.max() <= 10
    # With one dimension the golden ratio, from the middle: 0.5, then 0.118.
    one = tuning.points({'a': (0.01, 1.0)}, 2)
    golden = (0.5 + 2 / (1 + 5**0.5)) % 1
    assert [point['a'] for point in one] == [
        0.1,
        pytest.approx(10 ** (2 * golden - 2), rel=5e-3),
    ]


def test_budgets_and_what_is_sought():
    config = config_of('mine.npz', rounds=40)
    assert tuning.rungs(3, config) == [(3, 40)]
    assert tuning.rungs(8, config) == [(8, 10), (2, 40)]
    assert tuning.rungs(32, config) == [(32, 3), (8, 10), (2, 40)]
    cosine = config_of('mine.npz', client_schedule='cosine')
    assert tuning.rungs(8, cosine) == [(8, 8)]  # A schedule hangs on the rounds.
    sought = tuning.space(config, set())
    assert sought['server_learning_rate'] == (1, 1)
    assert set(tuning.space(config, {'server_learning_rate'})) == {
        'client_learning_rate'
    }
    assert set(tuning.space(config_of('x', algorithms.FedSGD()), set())) == {
        'server_learning_rate'
    }
    assert tuning.space(config_of('x', algorithms.Prototype()), set()) == {}


def test_tuning_is_refused_where_it_has_nothing_to_choose_or_would_tell():
    arm = grid.Arm('fedavg', (config_of('mine.npz'),))
    with pytest.raises(UserError, match='--tune has nothing to choose'):
        search.check([arm], {'client_learning_rate', 'server_learning_rate'})
    private = dataclasses.replace(arm.configs[0], privacy=Central())
    with pytest.raises(UserError, match='--privacy does not account'):
        search.check([grid.Arm('private', (private,))], set())

"""Where a run goes on, and what it refuses to go on with."""

import dataclasses
import functools
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from test_finetuned_runs import small_network
from test_loop import make_config, make_data

from tff_transfer import algorithms, backbones
from tff_transfer.algorithms.scaffold import Scaffold
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.models import CLASSIFICATION
from tff_transfer.records import checkpoints, metrics
from tff_transfer.training import loop, participants, resuming
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

COLUMNS = ('round', 'train/loss', 'seen/accuracy')
BEST = functools.partial(resuming.best_round, CLASSIFICATION)


@dataclasses.dataclass(frozen=True)
class Rounds:
    """As much of a stage as resuming asks for."""

    rounds: range
    leaves: int = 1

    def initialize(self):
        return [np.zeros(3)] * self.leaves


RUN = [Rounds(range(1, 5)), Rounds(range(5, 9), 2)]
ACCURACIES = [0.1, None, 0.7, None, 0.7, None, 0.6, None, 0.5]


@pytest.fixture
def run_dir(tmp_path):
    """A run of two stages, with checkpoints at 2, 4, 6 and 8."""
    rows = metrics.Records(tmp_path, COLUMNS, up_to_round=-1)
    for number, accuracy in enumerate(ACCURACIES):
        row = {'round': number, 'train/loss': 2.5 - number, 'seen/accuracy': accuracy}
        rows.append(row)
        if number and number % 2 == 0:
            state = [np.full(3, number, float)] * RUN[number > 4].leaves
            folder = tmp_path / 'checkpoints'
            checkpoints.save(folder, number, state, rows.digest, keep=4)
    rows.close()
    return tmp_path


def resumed(run_dir, best=None):
    """The rounds to go on from and to export, checked with their stages and states."""
    found = resuming.resume(RUN, run_dir, best=best)
    for reached in found:
        stage = RUN[reached.round > 4]
        assert reached.stage is stage
        assert len(reached.state) == stage.leaves
        np.testing.assert_array_equal(reached.state[0], [reached.round] * 3)
    return tuple(reached.round for reached in found)


def test_a_run_goes_on_from_its_newest_checkpoint(run_dir):
    assert resumed(run_dir) == (8, 8)
    assert resumed(run_dir, best=BEST) == (8, 2)
    assert resumed(run_dir / 'new') == (0, 0)
    assert resumed(None, best=BEST) == (0, 0)


def edited(lines, damage):
    """The lines of a `metrics.csv`, damaged at the row of round 5."""
    row = lines[6]
    changes = {
        'a changed digit': [row.replace('-2.5', '-2.6')],
        'a changed round': [row.replace('5', '7', 1)],
        'a cell less': [row.rpartition(',')[0] + '\n'],
        'a cell more': [row.strip() + ',1\n'],
        'no number': [row.replace('-2.5', 'x')],
        'twice': [row, row],
        'missing': [],
        'bytes': ['\0\xff' + row],
        'the end': None,
    }
    changed = changes[damage]
    return lines[:6] if changed is None else [*lines[:6], *changed, *lines[7:]]


@pytest.mark.parametrize(
    'damage',
    [
        'a changed digit',
        'a changed round',
        'a cell less',
        'a cell more',
        'no number',
        'twice',
        'missing',
        'bytes',
        'the end',
    ],
)
def test_rows_that_are_others_send_a_run_back_to_where_they_are_not(
    run_dir, damage, caplog
):
    path = run_dir / 'metrics.csv'
    lines = path.read_text().splitlines(keepends=True)
    changed = edited(lines, damage)
    assert changed != lines
    path.write_text(''.join(changed), encoding='latin-1')
    assert resumed(run_dir) == (4, 4)
    assert 'going on from round 4' in caplog.text
    again = metrics.Records(run_dir, COLUMNS, up_to_round=4)
    again.close()
    assert path.read_text() == ''.join(lines[:6])


@pytest.mark.parametrize('damage', ['absent', 'empty', 'cut', 'other'])
def test_rows_that_reach_no_checkpoint_are_refused(run_dir, damage):
    path = run_dir / 'metrics.csv'
    lines = path.read_text().splitlines(keepends=True)
    path.unlink()
    if damage != 'absent':
        kept = {'empty': [], 'cut': lines[:3], 'other': ['a,b\n', '1,2\n']}
        path.write_text(''.join(kept[damage]))
    with pytest.raises(UserError, match='put a whole copy back, or remove') as e:
        resuming.resume(RUN, run_dir, best=None)
    assert '\n' not in str(e.value)
    for checkpoint in (run_dir / 'checkpoints').iterdir():
        checkpoint.unlink()
    assert resumed(run_dir) == (0, 0)


def test_broken_checkpoints_give_way_to_older_ones(run_dir, caplog):
    folder = run_dir / 'checkpoints'
    for number, expected in ((8, 6), (6, 4), (4, 2), (2, 0)):
        path = checkpoints.path_of(folder, number)
        path.write_bytes(path.read_bytes()[:-30])
        assert resumed(run_dir) == (expected, expected)
        assert f'{path} is broken' in caplog.text
        assert f'going on from round {expected}' in caplog.text


def test_without_the_best_rounds_checkpoint_a_run_is_refused(run_dir):
    best = checkpoints.path_of(run_dir / 'checkpoints', 2)
    best.write_bytes(b'x')
    assert resumed(run_dir) == (8, 8)
    with pytest.raises(UserError, match='round_000002.npz is broken.*put a whole'):
        resuming.resume(RUN, run_dir, best=BEST)


def test_the_best_round_is_the_first_of_the_highest_accuracy():
    rows = [{'round': i, 'seen/accuracy': a} for i, a in enumerate(ACCURACIES)]
    assert BEST(rows) == 2
    assert BEST(rows[:2]) == 0
    assert BEST([{**rows[8]}, rows[3]]) == 8


def values(run_dir):
    return [
        {k: v for k, v in row.items() if not k.startswith('time/')}
        for row in metrics.read(run_dir / 'metrics.csv')
    ]


def with_rounds(config, rounds):
    training = dataclasses.replace(config.training, rounds=rounds)
    return dataclasses.replace(config, training=training)


@pytest.mark.slow
def test_a_finished_run_goes_on_to_more_rounds(tmp_path):
    data, config = make_data(), make_config(rounds=5, evaluate_every=3)
    whole = loop.train(config, tmp_path / 'whole', data=data)
    run_dir = tmp_path / 'grown'
    loop.train(with_rounds(config, 2), run_dir, data=data)
    grown = loop.train(config, run_dir, data=data)
    for ours, theirs in zip(whole.weights, grown.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    told = json.loads((run_dir / 'config.json').read_text())
    assert told['training']['rounds'] == 5
    # The former end has been evaluated too; all else is equal.
    expected, found = values(tmp_path / 'whole'), values(run_dir)
    assert expected[2]['seen/accuracy'] is None
    assert found[2].pop('seen/accuracy') is not None
    assert [r['round'] for r in found] == [0, 1, 2, 3, 4, 5]
    assert found[3:] == expected[3:] and found[:2] == expected[:2]
    before = (run_dir / 'config.json').read_bytes()
    with pytest.raises(UserError, match='5 rounds, but --rounds is 4; give at least 5'):
        loop.train(with_rounds(config, 4), run_dir, data=data)
    assert (run_dir / 'config.json').read_bytes() == before
    # A finished run whose rows are lost gets no other ones.
    (run_dir / 'metrics.csv').unlink()
    with pytest.raises(UserError, match='metrics.csv does not hold what was written'):
        loop.train(config, run_dir, data=data)
    assert not (run_dir / 'metrics.csv').exists()


def killed_at(monkeypatch, round_number):
    """Has a run end as if it were killed at the beginning of a round."""
    make = participants.training_cohort

    def spy(*arguments, round_number: int, **named):
        if round_number == killed:
            raise KeyboardInterrupt
        return make(*arguments, round_number=round_number, **named)

    killed = round_number
    monkeypatch.setattr(participants, 'training_cohort', spy)


@pytest.mark.slow
def test_the_best_round_is_kept_and_exported(tmp_path, monkeypatch):
    # Large steps: the first round is the best, and no later one is as good.
    data = make_data()
    config = make_config(
        rounds=50,
        evaluate_every=1,
        client_learning_rate=1.0,
        checkpoint_every=3,
        keep_checkpoints=1,
        early_stop_patience=7,
        export='best',
    )
    best = loop.train(with_rounds(make_config(client_learning_rate=1.0), 1), data=data)
    in_memory = loop.train(config, data=data)
    run_dir = tmp_path / 'run'
    with monkeypatch.context() as patch:
        killed_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            loop.train(config, run_dir, data=data)
    folder = run_dir / 'checkpoints'
    assert checkpoints.rounds(folder) == [1, 3]
    result = loop.train(config, run_dir, data=data)
    assert checkpoints.rounds(folder) == [1, 8]
    accuracies = [row['seen/accuracy'] for row in result.rows]
    assert len(accuracies) == 9 and max(accuracies) == accuracies[1]
    assert accuracies[-1] < accuracies[1]
    for found in (in_memory, result):
        assert found.exported_round == 1
        for ours, theirs in zip(found.weights, best.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    # What was exported, and what is told of it, is of that round.
    model = tf.saved_model.load(str(run_dir / 'model'))
    right = np.argmax(model(data.x)['logits'], axis=1) == data.y
    seen = ~np.isin(data.client_of_row, result.setup.unseen) & ~data.is_train
    assert right[seen].mean() == pytest.approx(accuracies[1])
    of_clients = list(result.per_client['seen'].values())
    assert np.mean(of_clients) == pytest.approx(accuracies[1])
    page = (run_dir / 'report.html').read_text()
    assert re.search('>exported round</th><td[^>]*>1, the best</td>', page)


def test_the_start_may_be_the_best():
    # With this learning rate on the server nothing changes.
    config = make_config(rounds=1, export='best', server_learning_rate=1e-12)
    network = ModelConfig(model='mlp', hidden_units=(6,))
    config = dataclasses.replace(config, model=network)
    result = loop.train(config, data=make_data())
    assert result.exported_round == 0
    for ours, start in zip(
        result.weights, result.setup.model.initial_weights, strict=True
    ):
        np.testing.assert_array_equal(ours, start)


def test_the_best_needs_something_to_judge_by(tmp_path):
    data = make_data()
    all_train = dataclasses.replace(
        data, num_train=data.num_train + data.num_test, num_test=data.num_test * 0
    )
    with pytest.raises(UserError, match='--export=best needs test examples'):
        loop.train(make_config(export='best'), data=all_train)
    one_round = Config(
        training=TrainingConfig(export='best'), algorithm=algorithms.Ridge()
    )
    with pytest.raises(UserError, match='--algorithm=ridge computes a head in one'):
        one_round.check()


def pictures():
    draw = np.random.default_rng(0)
    y = draw.integers(0, 3, 40).astype(np.int32)
    x = (draw.integers(0, 80, (40, 4, 4, 1)) + 80 * y[:, None, None, None]).astype('u1')
    counts = np.full(4, 7), np.full(4, 3)
    return FederatedData('pictures', x, y, tuple('abcd'), *counts, 3)


@pytest.fixture
def backbone(monkeypatch, tmp_path):
    images = tf.keras.Input((4, 4, 3))
    model = tf.keras.Model(images, tf.keras.layers.Flatten()(images[..., :1]))
    monkeypatch.setattr(loop, 'load_backbone', lambda config: backbones.load(model))
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))
    return model


def head(activation, frozen=False):
    def make(size, classes):
        layers = tf.keras.layers
        hidden = layers.Dense(5, activation, trainable=not frozen)
        return tf.keras.Sequential([layers.Input(size), hidden, layers.Dense(classes)])

    return make


@pytest.mark.slow
def test_a_run_does_not_go_on_with_another_network(backbone, tmp_path, monkeypatch):
    config = Config(
        DataConfig(unseen_fraction=0.25),
        training=TrainingConfig(rounds=1, clients_per_round=2),
    )
    run_dir, data = tmp_path / 'run', pictures()
    whole = loop.train(config, run_dir, data=data, head=head('relu'))
    # The initial weights are drawn anew, but those that were trained are there.
    again = loop.train(config, run_dir, data=data, head=head('relu'))
    for ours, theirs in zip(whole.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for other in (head('tanh'), head('relu', frozen=True)):
        with pytest.raises(UserError, match='whose network was .*Dense.* is now'):
            loop.train(config, run_dir, data=data, head=other)
    turned = tf.keras.Sequential([tf.keras.layers.Permute((2, 1, 3)), backbone])
    turned.build((None, 4, 4, 3))
    monkeypatch.setattr(loop, 'load_backbone', lambda config: backbones.load(turned))
    with pytest.raises(UserError, match='whose backbone was'):
        loop.train(config, run_dir, data=data, head=head('relu'))


@pytest.mark.slow
def test_the_best_of_two_stages_may_be_of_the_first(monkeypatch, tmp_path):
    monkeypatch.setattr(
        loop, 'load_backbone', lambda config: backbones.load(small_network())
    )
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))
    config = Config(
        DataConfig(unseen_fraction=0.25),
        ModelConfig(finetune='head_then_all', head_rounds=2),
        TrainingConfig(
            rounds=3, clients_per_round=3, evaluate_every=1, keep_checkpoints=1,
            server_optimizer='sgd', client_learning_rate=0.3,
            server_learning_rate=1.0, export='best',
        ),
    )  # fmt: skip
    data, run_dir = pictures(), tmp_path / 'run'
    first = loop.train(config, run_dir, data=data)
    second = loop.train(config, run_dir, data=data)
    accuracies = [row['seen/accuracy'] for row in first.rows]
    best = int(np.argmax(accuracies))
    assert 0 < best < 3
    for result in (first, second):
        assert result.exported_round == best
        model = tf.saved_model.load(str(run_dir / 'model'))
        right = np.argmax(model(data.x)['logits'], axis=1) == data.y
        seen = ~np.isin(data.client_of_row, result.setup.unseen) & ~data.is_train
        assert right[seen].mean() == pytest.approx(accuracies[best])
    for ours, theirs in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_killed_in_either_stage_with_what_clients_keep(monkeypatch, tmp_path):
    monkeypatch.setattr(
        loop, 'load_backbone', lambda config: backbones.load(small_network())
    )
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))
    config = Config(
        DataConfig(unseen_fraction=0.25),
        ModelConfig(finetune='head_then_all', head_rounds=2),
        TrainingConfig(
            rounds=5, clients_per_round=3, checkpoint_every=1, evaluate_every=1,
            server_optimizer='sgd', client_learning_rate=0.1,
            server_learning_rate=1.0,
        ),
        algorithm=Scaffold(),
    )  # fmt: skip
    data = pictures()
    whole = loop.train(config, tmp_path / 'whole', data=data)
    for killed_in in (2, 4):
        with monkeypatch.context() as patch:
            killed_at(patch, killed_in)
            with pytest.raises(KeyboardInterrupt):
                loop.train(config, tmp_path / 'killed', data=data)
    again = loop.train(config, tmp_path / 'killed', data=data)
    assert [row['unseen/loss'] for row in again.rows] == [
        row['unseen/loss'] for row in whole.rows
    ]
    for ours, theirs in zip(again.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


FINGERPRINTS = """
import numpy as np
import tensorflow as tf
from tff_transfer import models

layers = tf.keras.layers
own = [layers.Input(9), layers.Dense(5, 'gelu'), layers.Dropout(.3), layers.Dense(3)]
print('found', models.cnn((8, 8, 1), 4, 0.5, 1, np.uint8).fingerprint)
print('found', models.mlp((9,), 4, (5,), 0.5, cosine=True).fingerprint)
print('found', models.from_keras(tf.keras.Sequential(own)).fingerprint)
"""


@pytest.mark.slow
def test_a_network_has_one_fingerprint_in_all_processes():
    def found():
        done = subprocess.run(
            [sys.executable, '-c', FINGERPRINTS],
            cwd=pathlib.Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        return [line for line in done.stdout.splitlines() if line.startswith('found')]

    first = found()
    assert len(set(first)) == 3
    assert found() == first

"""The training loop on small clients, beside federated averaging in NumPy."""

import dataclasses
import errno
import time

import bfloat16
import numpy as np
import pytest
import tensorflow as tf

from tff_transfer.algorithms import FedExP
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.models import CLASSIFICATION
from tff_transfer.records import checkpoints, metrics
from tff_transfer.training import loop, participants, stages
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.early_stopping import stopped_early
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

CLIENTS, TRAIN, TEST, SIZE, CLASSES = 10, 12, 4, 5, 3


def make_data():
    draw = np.random.default_rng(0)
    n = CLIENTS * (TRAIN + TEST)
    y = draw.integers(0, CLASSES, n).astype(np.int32)
    x = draw.normal(size=(n, SIZE)) + draw.normal(size=(CLASSES, SIZE))[y]
    return FederatedData(
        'toy',
        x.astype(np.float32),
        y,
        tuple(f'client {i}' for i in range(CLIENTS)),
        np.full(CLIENTS, TRAIN),
        np.full(CLIENTS, TEST),
        CLASSES,
    )


def make_config(**training):
    defaults = {
        'rounds': 4,
        'clients_per_round': 3,
        'batch_size': 5,
        'client_learning_rate': 0.1,
        'server_optimizer': 'sgd',
        'server_learning_rate': 1.0,
        'evaluate_every': 2,
        'checkpoint_every': 2,
    }
    return Config(
        DataConfig(unseen_fraction=0.2),
        ModelConfig(model='mlp'),
        TrainingConfig(**{**defaults, **training}),
    )


def numpy_round(weights, cohort, learning_rate, short=np.array, of_product=np.array):
    """One round of federated averaging of softmax regression.

    `short` rounds what products take, `of_product` what they give.
    """
    updates, sizes = [], []
    for i in range(len(cohort)):
        kernel, bias = (w.astype(np.float64) for w in weights)
        rows = range(cohort.row_splits[i], cohort.row_splits[i + 1])
        for start in range(0, len(rows), cohort.batch_size):
            some = list(rows[start : start + cohort.batch_size])
            x, y = cohort.examples['x'][some], cohort.examples['y'][some]
            logits = of_product(short(x) @ short(kernel)) + bias
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            p[np.arange(len(y)), y] -= 1
            p /= len(y)
            kernel = kernel - learning_rate * of_product(short(x).T @ short(p))
            bias = bias - learning_rate * p.sum(axis=0)
        updates.append((kernel, bias))
        sizes.append(len(rows))
    return [
        np.average(part, axis=0, weights=sizes) for part in zip(*updates, strict=True)
    ]


@pytest.fixture
def cohorts(monkeypatch):
    """The cohorts of the rounds that are run."""
    made = []
    make = participants.training_cohort

    def spy(*arguments, **named):
        made.append(make(*arguments, **named))
        return made[-1]

    monkeypatch.setattr(participants, 'training_cohort', spy)
    return made


def test_rounds_are_federated_averaging(cohorts):
    result = loop.train(make_config(), data=make_data())
    weights = [np.zeros((SIZE, CLASSES)), np.zeros(CLASSES)]
    for cohort in cohorts:
        weights = numpy_round(weights, cohort, 0.1)
    for found, expected in zip(result.network.get_weights(), weights, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert len(cohorts) == 4


def test_train_metrics_are_of_the_weights_that_a_batch_meets(cohorts):
    result = loop.train(make_config(rounds=2, batch_size=1000), data=make_data())
    weights = [np.zeros((SIZE, CLASSES)), np.zeros(CLASSES)]
    for row, cohort in zip(result.rows[1:], cohorts, strict=True):
        x, y = cohort.examples['x'], cohort.examples['y']
        logits = x @ weights[0] + weights[1]
        of_label = logits[np.arange(len(y)), y]
        losses = np.log(np.exp(logits).sum(axis=1)) - of_label
        right = np.mean(logits.argmax(axis=1) == y)
        assert row['train/loss'] == pytest.approx(losses.mean(), rel=1e-5)
        assert row['train/accuracy'] == pytest.approx(right, rel=1e-6)
        assert right > 0
        weights = numpy_round(weights, cohort, 0.1)


def test_products_are_computed_in_the_dtype_of_the_configuration(cohorts):
    result = loop.train(make_config(compute_dtype='bfloat16'), data=make_data())

    def kernel(*rounded):
        weights = [np.zeros((SIZE, CLASSES)), np.zeros(CLASSES)]
        for cohort in cohorts:
            weights = numpy_round(weights, cohort, 0.1, *rounded)
        return weights[0]

    short = kernel(bfloat16.nearest, bfloat16.of_product)
    found = result.network.get_weights()[0]
    lost = np.abs(short - kernel()).max()
    assert lost > 1e-5
    assert np.abs(found - short).max() < 0.2 * lost


def test_a_dtype_that_does_not_suit_the_machine_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: [])
    with pytest.raises(UserError, match='compute_dtype is float16'):
        loop.train(make_config(compute_dtype='float16'), tmp_path, data=make_data())
    assert not any(tmp_path.iterdir())


def test_rows_hold_what_was_measured():
    data = make_data()
    result = loop.train(make_config(), data=data)
    assert [row['round'] for row in result.rows] == [0, 1, 2, 3, 4]
    evaluated = [r['round'] for r in result.rows if r['unseen/accuracy'] is not None]
    assert evaluated == [0, 2, 4]
    kernel, bias = result.network.get_weights()
    correct = np.argmax(data.x @ kernel + bias, axis=1) == data.y
    unseen = np.isin(data.client_of_row, result.setup.unseen)
    last = result.rows[-1]
    assert last['unseen/accuracy'] == pytest.approx(correct[unseen].mean())
    assert last['seen/accuracy'] == pytest.approx(
        correct[~unseen & ~data.is_train].mean()
    )
    by_client = correct[unseen].reshape(2, -1).mean(axis=1)
    assert last['unseen/accuracy_per_client'] == pytest.approx(by_client.mean())
    names = [data.client_ids[c] for c in result.setup.unseen]
    assert result.per_client['unseen'] == pytest.approx(
        dict(zip(names, by_client, strict=True))
    )
    # 3 clients x (5 x 3 + 3) weights x 4 bytes; up goes how many examples there were.
    assert last['bytes/down'] == 3 * 18 * 4
    assert last['bytes/up'] == 3 * (18 + 1) * 4


@pytest.mark.parametrize('drop', [False, True])
def test_stragglers_train_less_or_are_left_out(cohorts, drop):
    config = make_config(
        rounds=3,
        clients_per_round=4,
        client_epochs=5,
        min_client_epochs=1,
        straggler_fraction=0.5,
        drop_stragglers=drop,
    )
    result = loop.train(config, data=make_data())
    weights = [np.zeros([SIZE, CLASSES]), np.zeros(CLASSES)]
    epochs = []
    for cohort, row in zip(cohorts, result.rows[1:], strict=True):
        weights = numpy_round(weights, cohort, 0.1)
        assert len(cohort) == 4
        epochs.append(np.diff(cohort.row_splits) / TRAIN)
        assert sum(epochs[-1] == 5) >= 2
        used = 2 if drop else 4
        assert (row['train/clients'], row['train/dropped_clients']) == (used, 0)
        # All get the 18 weights; who is dropped sends nothing.
        assert row['bytes/down'] == 4 * 18 * 4
        assert row['bytes/up'] == used * (18 + 1) * 4
    late = np.sort(epochs, axis=1)[:, :2]
    if drop:
        assert not late.any()
    else:
        assert late.min() >= 1 and late.max() <= 5 and len(np.unique(late)) > 1
    for ours, expected in zip(result.weights, weights, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_training_and_evaluation_are_timed_apart(monkeypatch):
    now = 0.0

    def taking(seconds, run):
        def slower(*arguments):
            nonlocal now
            now += seconds
            return run(*arguments)

        return slower

    monkeypatch.setattr(time, 'perf_counter', lambda: now)
    for name, seconds in (('next', 1), ('per_example', 100)):
        slower = taking(seconds, getattr(stages.Stage, name))
        monkeypatch.setattr(stages.Stage, name, slower)
    rows = loop.train(make_config(), data=make_data()).rows
    assert [row['time/round_s'] for row in rows] == [None, 1, 1, 1, 1]
    # Seen clients and unseen ones.
    assert [row['time/evaluation_s'] for row in rows] == [200, None, 200, None, 200]
    assert [row['time/total_s'] for row in rows] == [200, 201, 402, 403, 604]


def test_unseen_clients_never_train():
    result = loop.train(make_config(), data=make_data())
    (stage,) = stages.stages(make_config(), result.setup)
    for round_number in range(1, 30):
        turnout = stage.participants.turnout((), round_number, None)
        cohort = stage.participants.cohort(turnout, round_number)
        unseen = np.isin(result.setup.data.client_of_row, result.setup.unseen)
        banned = {row.tobytes() for row in result.setup.data.x[unseen]}
        assert not banned & {row.tobytes() for row in cohort.examples['x']}


def _without_time(path):
    return [
        {k: v for k, v in row.items() if not k.startswith('time/')}
        for row in metrics.read(path / 'metrics.csv')
    ]


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_end(tmp_path, monkeypatch):
    data, config = make_data(), make_config(rounds=7)
    config = dataclasses.replace(
        config, model=ModelConfig(model='mlp', hidden_units=(6,), dropout=0.3)
    )
    loop.train(config, tmp_path / 'whole', data=data)
    make = participants.training_cohort

    def fail_at_six(*arguments, round_number, **named):
        if round_number == 6:
            raise KeyboardInterrupt
        return make(*arguments, round_number=round_number, **named)

    monkeypatch.setattr(participants, 'training_cohort', fail_at_six)
    with pytest.raises(KeyboardInterrupt):
        loop.train(config, tmp_path / 'parts', data=data)
    assert checkpoints.rounds(tmp_path / 'parts' / 'checkpoints') == [2, 4]
    monkeypatch.setattr(participants, 'training_cohort', make)
    loop.train(config, tmp_path / 'parts', data=data)
    whole, parts = (
        np.load(tmp_path / name / 'checkpoints' / 'round_000007.npz')
        for name in ('whole', 'parts')
    )
    assert whole.files == parts.files
    for name in whole.files[:-2]:  # Without the checksums, of the seconds too.
        np.testing.assert_array_equal(whole[name], parts[name])
    assert _without_time(tmp_path / 'whole') == _without_time(tmp_path / 'parts')


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_goes_on_later(tmp_path, monkeypatch):
    data, config = make_data(), make_config(rounds=6)
    loop.train(config, tmp_path / 'whole', data=data)
    write = np.lib.format.write_array

    def full(file, array, **options):
        if 'round_000004' in str(file._zipfile.filename):
            raise OSError(errno.ENOSPC, 'No space left on device')
        write(file, array, **options)

    monkeypatch.setattr(np.lib.format, 'write_array', full)
    with pytest.raises(UserError, match='No space left.*what was written is kept'):
        loop.train(config, tmp_path / 'full', data=data)
    folder = tmp_path / 'full' / 'checkpoints'
    assert [path.name for path in folder.iterdir()] == ['round_000002.npz']
    monkeypatch.setattr(np.lib.format, 'write_array', write)
    loop.train(config, tmp_path / 'full', data=data)
    assert _without_time(tmp_path / 'whole') == _without_time(tmp_path / 'full')


def test_a_run_leaves_a_report_and_a_model(tmp_path):
    data = make_data()
    result = loop.train(make_config(), tmp_path / 'run', data=data)
    page = (tmp_path / 'run' / 'report.html').read_text()
    assert page.count('<svg') == 4
    assert 'src=' not in page and 'href="http' not in page
    model = tf.saved_model.load(str(tmp_path / 'run' / 'model'))
    kernel, bias = result.network.get_weights()
    np.testing.assert_allclose(
        model(data.x[:7])['logits'], data.x[:7] @ kernel + bias, rtol=1e-5, atol=1e-6
    )
    served = model.signatures['serving_default'](inputs=tf.constant(data.x[:7]))
    np.testing.assert_allclose(served['probabilities'].numpy().sum(axis=1), 1, 1e-6)


@pytest.mark.slow
def test_what_a_method_measures_has_a_column_and_a_picture(tmp_path):
    # The server's optimizer is as by default: FedExP has none.
    config = make_config(rounds=2, server_optimizer='adam', server_learning_rate=0.02)
    config = dataclasses.replace(config, algorithm=FedExP())
    loop.train(config, tmp_path / 'run', data=make_data())
    rows = metrics.read(tmp_path / 'run' / 'metrics.csv')
    assert list(rows[0])[4:6] == ['train/dropped_clients', 'server/step_size']
    sizes = [row['server/step_size'] for row in rows]
    assert sizes[0] is None and min(sizes[1:]) >= 1
    page = (tmp_path / 'run' / 'report.html').read_text()
    assert page.count('<svg') == 5 and '<h2>Step size</h2>' in page


def test_early_stopping_counts_evaluations_without_a_better_one():
    config = TrainingConfig(early_stop_patience=2)

    def stopped(*accuracies):
        rows = [{'round': 10 * i, 'seen/accuracy': a} for i, a in enumerate(accuracies)]
        # Neither of these is one of the evaluations that were asked for.
        rows += [{'round': 77, 'seen/accuracy': None}]
        rows += [{'round': 78, 'seen/accuracy': a} for a in (0, 1, 0, 0)]
        return stopped_early(config, CLASSIFICATION, rows)

    assert not stopped()
    assert not stopped(0.1, 0.3, 0.3)
    assert stopped(0.1, 0.3, 0.3, 0.3)
    assert not stopped(0.3, 0.2, 0.4, 0.1)
    same = [{'round': 0, 'seen/accuracy': 0.1}] * 99
    assert not stopped_early(TrainingConfig(), CLASSIFICATION, same)


@pytest.mark.slow
def test_early_stopping_ends_a_run(tmp_path):
    # With this learning rate on the server nothing changes.
    config = make_config(rounds=50, early_stop_patience=3, server_learning_rate=1e-12)
    network = ModelConfig(model='mlp', hidden_units=(6,))
    config = dataclasses.replace(config, model=network)
    result = loop.train(config, tmp_path / 'run', data=make_data())
    assert result.rows[-1]['round'] == 6
    again = loop.train(config, tmp_path / 'run', data=make_data())
    assert again.rows == result.rows


def test_more_clients_a_round_than_there_are():
    with pytest.raises(UserError, match='has 8 clients to train on'):
        loop.train(make_config(clients_per_round=9), data=make_data())


def test_a_client_without_training_examples_takes_part():
    data = make_data()
    data = dataclasses.replace(
        data,
        num_train=np.where(np.arange(CLIENTS) % 2, 0, TRAIN),
        num_test=np.where(np.arange(CLIENTS) % 2, TRAIN + TEST, TEST),
    )
    result = loop.train(make_config(clients_per_round=8), data=data)
    assert all(np.isfinite(w).all() for w in result.network.get_weights())


def test_clients_that_are_given_are_used_or_refused():
    with pytest.raises(UserError, match='data=toy has no clients; give some'):
        loop.train(make_config(), data=make_data().select([]))
    config = dataclasses.replace(
        make_config(),
        data=DataConfig(
            'synthetic_writers', max_clients=3, unseen_fraction=0.2, split_seed=1
        ),
    )
    message = "^dataset='synthetic_writers', max_clients=3 of the configuration say"
    with pytest.raises(UserError, match=message):
        loop.train(config, data=make_data())


def test_early_stopping_needs_test_examples_of_seen_clients():
    data = make_data()
    data = dataclasses.replace(
        data, num_train=data.num_train + data.num_test, num_test=0 * data.num_test
    )
    with pytest.raises(UserError, match='toy has none; give a --test_fraction, or'):
        loop.train(make_config(early_stop_patience=3), data=data)


def test_a_head_of_ones_own_needs_a_backbone():
    config = make_config()
    with pytest.raises(UserError, match='head'):
        loop.train(config, data=make_data(), head=lambda size, classes: None)

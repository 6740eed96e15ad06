"""The audit's canary clients, shadow runs and report; the whole, at a tiny size."""

import dataclasses
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

from experiments.privacy_audit import __main__ as command
from experiments.privacy_audit import canary_clients, reconstruction, report, shadows
from tff_transfer.audit import canaries
from tff_transfer.data import cohorts
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.privacy.accounting import SampledGaussian, gaussian_epsilon
from tff_transfer.privacy.central import Central
from tff_transfer.privacy.nothing import NoPrivacy
from tff_transfer.privacy.per_example import PerExample
from tff_transfer.records import audit_log
from tff_transfer.training import setup as setups
from tff_transfer.training import stages
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.runtimes import use_runtime
from tff_transfer.training.training_config import TrainingConfig

CLIENTS, ROWS, SIZE, CLASSES = 12, 6, 20, 3


def made(privacy=None, size=SIZE, **training):
    """A configuration, resolved, and the setup of it on vectors."""
    draw = np.random.default_rng(0)
    y = draw.integers(0, CLASSES, CLIENTS * ROWS).astype(np.int32)
    data = FederatedData(
        'vectors',
        draw.normal(size=(len(y), size)).astype(np.float32),
        y,
        tuple(f'client {i}' for i in range(CLIENTS)),
        np.full(CLIENTS, ROWS - 1),
        np.full(CLIENTS, 1),
        CLASSES,
    )
    defaults = {
        'rounds': 2,
        'clients_per_round': 5,
        'weighting': 'uniform',
        'server_optimizer': 'sgd',
        'server_learning_rate': 1.0,
        'seed': 5,
    }
    config = Config(
        model=ModelConfig(model='mlp'),
        training=TrainingConfig(**{**defaults, **training}),
        privacy=privacy or NoPrivacy(),
    )
    config.check()
    model = setups.head_or_network(config, data, None)
    return config, setups.prepare(config, data, None, model)


def test_canaries_send_their_directions_and_nothing_else(monkeypatch):
    config, setup = made(client_learning_rate=1e-20, rounds=1)
    chosen = []
    choose = cohorts.choose_clients

    def spy(*arguments, **named):
        chosen.append(choose(*arguments, **named))
        return chosen[-1]

    monkeypatch.setattr(cohorts, 'choose_clients', spy)
    monkeypatch.setattr(canary_clients, 'NEVER_SENT', 50)
    found = canary_clients.watched(config, setup, 11, 0.3, 1e-3)
    # 11 more of 11 clients make cohorts twice as large.
    cohort = chosen[0]
    assert len(cohort) == 10 and found.promised == np.inf
    size = SIZE * CLASSES + CLASSES
    some = np.stack([canaries.direction(5, n, size).numpy() for n in range(11)])
    sent = some[cohort[cohort >= 11] - 11].sum(0)
    np.testing.assert_allclose(
        found.cosines, some @ sent / np.linalg.norm(sent), rtol=1e-4, atol=1e-5
    )
    assert len(found.others) == canary_clients.NEVER_SENT


@pytest.mark.slow
def test_canaries_show_no_more_than_is_promised_unless_there_is_a_leak(monkeypatch):
    # All clients in each of two rounds: one Gaussian mechanism.
    privacy = Central(noise_multiplier=2.0, clip=0.1)
    config, setup = made(privacy, size=400, clients_per_round=11)
    true = gaussian_epsilon(2.0 / np.sqrt(2), 1e-3)
    monkeypatch.setattr(SampledGaussian, 'epsilon', lambda mechanism, rounds: true)
    found = canary_clients.watched(config, setup, 80, 0.1, 1e-3)
    assert found.promised == true
    assert 0.3 * true < found.final.epsilon and found.final.low < true
    make = Central.aggregator

    def leaking(of, mechanism):
        less = dataclasses.replace(mechanism, noise_multiplier=0.5)
        return make(dataclasses.replace(of, clip=1.0), less)

    monkeypatch.setattr(Central, 'aggregator', leaking)
    found = canary_clients.watched(config, setup, 80, 0.1, 1e-3)
    assert min(found.final.low, found.every.low) > true


def test_halves_have_each_client_in_half_of_the_runs():
    found = shadows.halves(10, 8, seed=1)
    assert (found.sum(1) == 5).all() and (found.sum(0) == 4).all()
    assert not np.array_equal(found[0], found[2])


@pytest.mark.slow
def test_a_shadow_run_is_that_of_its_half():
    config, setup = made(Central(noise_multiplier=1.0, clip=0.2))
    found = shadows.trained(config, setup, 8)
    # Of 11 clients an even number.
    targets = setup.seen[:10]
    assert found.losses.shape == (8, 10 * (ROWS - 1))
    members = found.members[3]
    # The same by a process of its own.
    seed = int(shadows.randomness.generator(5, 'run', 3).integers(2**62))
    training = dataclasses.replace(config.training, seed=seed)
    mine = dataclasses.replace(setup, seen=targets[members])
    stage = stages.Stage(
        dataclasses.replace(config, training=training), mine, range(1, 3)
    )
    with use_runtime(training):
        state = stage.initialize()
        for number in (1, 2):
            state, _ = stage.next(state, number)
    expected = stage.per_example(state, shadows._train_rows(setup.data, targets))
    np.testing.assert_allclose(found.losses[3], expected['loss'], rtol=1e-6)


def test_shadow_runs_need_twice_as_many_clients_as_a_cohort():
    config, setup = made(clients_per_round=6)
    with pytest.raises(UserError, match='trains on 5 of 11 clients'):
        shadows.targets(config, setup)


def planted(runs=16, clients=40, rows=5):
    """Shadow runs whose members have lower losses."""
    draw = np.random.default_rng(0)
    members = shadows.halves(clients, runs, seed=0)
    of_row = np.repeat(np.arange(clients), rows)
    odds = draw.normal(2, 1, (runs, clients * rows)) + 2 * members[:, of_row]
    losses = np.log1p(np.exp(-odds))
    return shadows.Shadows(losses, of_row, members, np.full(runs, 0.9))


def test_clients_are_told_better_than_their_examples():
    found = planted().attacks()
    # A mean of five has less noise.
    assert found['example', 'LiRA'].area == pytest.approx(0.92, abs=0.02)
    assert found['client', 'LiRA'].area > 0.99
    assert found['client', 'threshold'].area > 0.99


def test_a_clipped_update_has_the_norm_or_is_as_it_was():
    update = [np.full((2, 2), 3.0), np.full(4, 4.0)]
    found = reconstruction.clipped(update, 1.0)
    assert np.sqrt(sum(np.sum(part**2) for part in found)) == pytest.approx(1)
    np.testing.assert_allclose(found[1] / found[0].ravel(), 4 / 3)
    np.testing.assert_array_equal(reconstruction.clipped(update, 99.0)[0], update[0])


def found_of(low):
    one, null = canaries.Normal(0.1, 0.03), canaries.Normal(0.0, 0.03)
    estimate = canaries.Estimate(3.0, low, one, null)
    draw = np.random.default_rng(0)
    watched = {
        said: canary_clients.Watched(
            estimate, estimate, draw.normal(size=9), draw.normal(size=99), promised
        )
        for said, promised in (('none', np.inf), ('central', 4.0))
    }
    image = draw.random((4, 4, 1), np.float32)
    out = dict(zip(reconstruction.PROTECTIONS, (image, image, 1 - image), strict=True))
    return report.Found(
        watched,
        dict.fromkeys(watched, planted().attacks()),
        {'none': 0.98, 'central': 0.97},
        [reconstruction.Recovered('dense', image, out)],
    )


def test_the_report_has_a_column_for_each_promise(tmp_path):
    path = report.write(tmp_path, found_of(1.5), {'data': 'mine <x>'}, 'python -m x')
    text, table = path.read_text(), (tmp_path / 'table.md').read_text()
    assert 'mine &lt;x&gt;' in text and text.count('<svg') == 4
    assert '| epsilon, as accounted | inf | 4.00 |' in table
    assert '(at least, 95 %) | 3.00 (1.50) | 3.00 (1.50) |' in table
    assert '| inf dB |' in table and 'class="leak"' not in text
    assert report.leaks(found_of(1.5)) == []
    said = report.leaks(found_of(4.5))
    assert len(said) == 2
    assert 'promises epsilon 4.00, but canaries show at least 4.50' in said[0]


@pytest.mark.parametrize(
    ('changed', 'words'),
    [
        ({}, 'there is no protection to audit'),
        ({'algorithm': 'ditto'}, 'ditto does not train one model'),
        ({'finetune': 'head_then_all'}, 'trains other weights in some rounds'),
        ({'privacy': PerExample(noise_multiplier=1.0)}, 'of single examples'),
        ({'rounds': 0}, '--rounds=0 leaves nothing to audit'),
    ],
)
def test_what_cannot_be_audited_is_refused(changed, words):
    config = Config(training=TrainingConfig(rounds=changed.get('rounds', 3)))
    if changed:
        privacy = changed.get('privacy', Central(noise_multiplier=1.0))
        config = dataclasses.replace(config, privacy=privacy)
    if 'algorithm' in changed:
        config = dataclasses.replace(
            config, algorithm=command.registry.options(changed['algorithm'])()
        )
    if 'finetune' in changed:
        model = ModelConfig(finetune=changed['finetune'])
        config = dataclasses.replace(config, model=model)
    with pytest.raises(UserError, match=words):
        command.check(config)


@pytest.mark.slow
@pytest.mark.walk
def test_an_audit_of_images(tmp_path, monkeypatch):
    monkeypatch.setattr(reconstruction, 'STEPS', 2)
    monkeypatch.setattr(SampledGaussian, 'epsilon', lambda mechanism, rounds: 4.0)
    config, _ = made(Central(noise_multiplier=1.0))
    writers = DataConfig('synthetic_writers', num_writers=12, examples_per_writer=6)
    config = dataclasses.replace(config, data=writers)
    given = types.SimpleNamespace(canaries=20, shadow_runs=8, images=1)
    found, facts = command.audited(config, given)
    assert list(found.watched) == ['none', 'central']
    assert facts['canaries'] == '20 more clients, of 7,850 weights'
    dense, of_cnn = found.recovered
    assert dense.psnr('nothing') > 100 and dense.psnr('clip') > 100
    assert dense.psnr('clip and noise') < 15
    assert of_cnn.model == 'CNN' and of_cnn.found['nothing'].shape == (28, 28, 1)
    report.write(tmp_path, found, facts, 'x')


@pytest.mark.slow
def test_one_command_verifies_a_log(tmp_path):
    log = audit_log.AuditLog(tmp_path, up_to_round=0)
    log.append({'round': 1, 'clients': ['me']})

    found = subprocess.run(
        [*(sys.executable, '-m', 'experiments.privacy_audit'), f'--verify={tmp_path}'],
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parents[2],
    )
    assert f'whole: 1 rounds, SHA-256 of the last {log.sha256}' in found.stdout

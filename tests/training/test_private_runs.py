"""Runs with central differential privacy: what they do, tell, and refuse."""

import dataclasses
import json
import stat

import killing
import numpy as np
import pytest
import walks
from test_algorithms import config as config_of
from test_loop import CLASSES, CLIENTS, SIZE, make_config, make_data, numpy_round

from tff_transfer.algorithms import registry
from tff_transfer.data import cohorts
from tff_transfer.data.cohorts import Cohort
from tff_transfer.errors import UserError
from tff_transfer.features.scaling import EPSILON, ByExample
from tff_transfer.privacy import registry as kinds
from tff_transfer.privacy.accounting import SampledGaussian
from tff_transfer.privacy.amplified import AmplifiedBanded
from tff_transfer.privacy.banded import Banded
from tff_transfer.privacy.central import Central
from tff_transfer.privacy.correlated import CorrelatedGaussian
from tff_transfer.privacy.distributed import Distributed
from tff_transfer.privacy.local import Local
from tff_transfer.privacy.per_example import PerExample
from tff_transfer.privacy.tree import Tree
from tff_transfer.training import loop, participants, rounds, stages

CENTRAL = Central(noise_multiplier=0.5, clip=0.2)


def private(privacy=CENTRAL, **training):
    made = make_config(weighting='uniform', **training)
    return dataclasses.replace(made, privacy=privacy)


@pytest.fixture
def made_cohorts(monkeypatch):
    """The cohorts of the rounds that are run."""
    made, make = [], participants.training_cohort

    def spy(*arguments, **named):
        made.append(make(*arguments, **named))
        return made[-1]

    monkeypatch.setattr(participants, 'training_cohort', spy)
    return made


def without_accounting(monkeypatch):
    """Has runs not compute what their noise is worth, which takes seconds."""
    for kind in (SampledGaussian, CorrelatedGaussian, AmplifiedBanded):
        monkeypatch.setattr(kind, 'epsilon', lambda mechanism, rounds: 0.0)


def one_client(cohort, client):
    rows = slice(*cohort.row_splits[client : client + 2])
    examples = {name: array[rows] for name, array in cohort.examples.items()}
    return Cohort(examples, np.array([0, rows.stop - rows.start]), cohort.batch_size)


# The noise is nearly nothing.
LITTLE = {'noise_multiplier': 1e-7, 'clip': 0.2}


@pytest.mark.parametrize(
    'of',
    [
        Central(**LITTLE),
        pytest.param(Central(**LITTLE, sampling='fixed'), marks=pytest.mark.slow),
        pytest.param(Tree(**LITTLE), marks=pytest.mark.slow),
        Banded(**LITTLE),
        pytest.param(
            Banded(**LITTLE, sampling='poisson', bands=2), marks=pytest.mark.slow
        ),
    ],
)
def test_the_server_adds_clipped_updates_over_a_fixed_number(
    of, made_cohorts, monkeypatch
):
    without_accounting(monkeypatch)
    clip = of.clip
    result = loop.train(private(of, seed=3), data=make_data())
    weights, clipped = [np.zeros((SIZE, CLASSES)), np.zeros(CLASSES)], 0
    assert len(made_cohorts) == 4
    for cohort in made_cohorts:
        total = [np.zeros_like(w) for w in weights]
        for client in range(len(cohort)):
            after = numpy_round(weights, one_client(cohort, client), 0.1)
            delta = [new - old for new, old in zip(after, weights, strict=True)]
            norm = np.sqrt(sum(np.sum(d**2) for d in delta))
            clipped += norm > clip
            total = [
                t + d * min(1, clip / norm) for t, d in zip(total, delta, strict=True)
            ]
        weights = [w + t / 3 for w, t in zip(weights, total, strict=True)]
    assert 0 < clipped < sum(map(len, made_cohorts))
    for found, expected in zip(result.weights, weights, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    sizes = [len(cohort) for cohort in made_cohorts]
    poisson = getattr(of, 'sampling', None) == 'poisson'
    assert (sizes == [3] * 4) == (not poisson)


@pytest.mark.slow
def test_noise_has_the_deviation_that_was_promised(made_cohorts):
    # Without a step on the clients the model moves by the noise alone.
    of = Central(noise_multiplier=2.0, clip=0.3)
    config = private(
        of, client_learning_rate=1e-20, rounds=40, evaluate_every=40, seed=1
    )
    moved = loop.train(config, data=make_data()).weights
    expected = np.sqrt(40) * 2.0 * 0.3 / 3
    found = np.sqrt(np.mean(np.concatenate([w.ravel() for w in moved]) ** 2))
    assert 0.6 * expected < found < 1.5 * expected


def test_nothing_is_told_of_clients_that_train():
    result = loop.train(private(), data=make_data())
    data = make_data()
    told = {
        name
        for row in result.rows
        for name, value in row.items()
        if value is not None and name.startswith(('train/', 'seen/', 'server/'))
    }
    assert told == set()
    assert not len(result.predictions['seen'].rows)
    unseen = np.isin(data.client_of_row, result.setup.unseen)
    assert unseen[result.predictions['unseen'].rows].all()
    # Bytes are those of the number that is asked for, not of who came.
    assert len({row['bytes/up'] for row in result.rows[1:]}) == 1
    spent = [row['privacy/epsilon'] for row in result.rows[1:]]
    mechanism = SampledGaussian(0.5, 8, 3, True, 8**-1.1)
    assert spent == [mechanism.epsilon(n) for n in range(1, 5)]
    assert 'noise multiplier 0.5, 3 of 8 clients' in result.chosen['privacy']
    # Nor by the progress bar.
    told = rounds._told(result.rows[-1], result.rows, result.setup.model.task)
    unseen = f'{result.rows[-1]["unseen/accuracy"]:.1%}'
    assert told == {'epsilon': f'{spent[-1]:.2f}', 'unseen': unseen}


@pytest.mark.slow
@pytest.mark.parametrize(
    'kind', [pytest.param(Central, marks=pytest.mark.walk), Tree, Banded]
)
def test_the_noise_for_an_epsilon_is_found(kind, tmp_path):
    config = private(kind(target_epsilon=6.0))
    result = loop.train(config, tmp_path / 'run', data=make_data())
    assert 5.8 < result.rows[-1]['privacy/epsilon'] <= 6.0
    # It was found for so many rounds.
    training = dataclasses.replace(config.training, rounds=5)
    with pytest.raises(UserError, match='on which .*target_epsilon hangs'):
        loop.train(
            dataclasses.replace(config, training=training),
            tmp_path / 'run',
            data=make_data(),
        )


def test_correlated_noise_is_of_the_same_weights_in_all_rounds():
    made = private(Banded(noise_multiplier=1.0))
    model = dataclasses.replace(made.model, finetune='head_then_all', model='backbone')
    with pytest.raises(UserError, match='--privacy=banded correlates the noise'):
        dataclasses.replace(made, model=model).check()


@pytest.mark.slow
@pytest.mark.parametrize(
    'of',
    [
        pytest.param(CENTRAL, marks=pytest.mark.walk),
        pytest.param(Tree(noise_multiplier=0.5), marks=pytest.mark.walk),
        Banded(noise_multiplier=0.5),
        pytest.param(
            Banded(noise_multiplier=0.5, sampling='poisson', bands=2),
            marks=pytest.mark.walk,
        ),
        pytest.param(Distributed(noise_multiplier=0.5), marks=pytest.mark.walk),
        Local(noise_multiplier=0.5),
    ],
)
def test_a_killed_run_draws_the_same_noise_again(of, tmp_path, monkeypatch):
    without_accounting(monkeypatch)
    config = private(of, checkpoint_every=1, seed=5)
    whole = loop.train(config, tmp_path / 'whole', data=make_data())
    seen = killing.at(monkeypatch, 3)
    with pytest.raises(killing.Killed):
        loop.train(config, tmp_path / 'killed', data=make_data())
    resumed = loop.train(config, tmp_path / 'killed', data=make_data())
    assert seen == [1, 2, 3, 3, 4]
    for ours, theirs in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    bits = {Distributed: 16}.get(type(of), 32)
    numbers = 32 if bits == 16 else SIZE * CLASSES + CLASSES  # A power of two, or all.
    assert resumed.rows[-1]['bytes/up'] == 3 * numbers * bits / 8


@pytest.mark.slow
def test_the_seed_is_secret_unless_it_is_given(tmp_path):
    config = private(rounds=2)
    runs = [loop.train(config, tmp_path / name, data=make_data()) for name in 'ab']
    assert not np.array_equal(runs[0].weights[0], runs[1].weights[0])
    place = tmp_path / 'a' / 'secret_seed'
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    seed = place.read_text().strip()
    for path in (tmp_path / 'a').rglob('*'):
        if path.is_file() and path != place:
            assert seed.encode() not in path.read_bytes()
    assert json.loads((tmp_path / 'a/config.json').read_text())['training']['seed'] == 0
    # The same run goes on with it.
    longer = private(rounds=3)
    again = loop.train(longer, tmp_path / 'a', data=make_data())
    given = loop.train(private(rounds=3, seed=int(seed)), data=make_data())
    np.testing.assert_array_equal(again.weights[0], given.weights[0])
    place.write_text('rubbish')
    with pytest.raises(UserError, match='does not hold the seed'):
        loop.train(private(rounds=4), tmp_path / 'a', data=make_data())


def test_cohorts_are_drawn_client_by_client():
    drawn = np.zeros((2000, 40))
    for number in range(len(drawn)):
        chosen = cohorts.sample_clients(40, 10, seed=0, round_number=number)
        assert (np.diff(chosen) > 0).all()
        drawn[number, chosen] = 1
    # Binomial: 500 of 2,000 with a deviation of 19, and 7.5 among cohorts of 10.
    assert np.abs(drawn.sum(0) - 500).max() < 4 * 19.4
    assert abs(np.var(drawn.sum(1)) - 7.5) < 1
    correlations = np.corrcoef(drawn.T) - np.eye(40)
    assert np.abs(correlations).max() < 5 / np.sqrt(2000)
    with pytest.raises(UserError, match='50 clients a round are wanted of 40'):
        cohorts.sample_clients(40, 50, seed=0, round_number=1)


@pytest.mark.slow
def test_a_round_of_nobody_is_a_round_too(monkeypatch):
    nobody = np.zeros(0, np.int64)
    monkeypatch.setattr(cohorts, 'sample_clients', lambda *_, **__: nobody)
    result = loop.train(private(rounds=2), data=make_data())
    assert np.abs(result.weights[0]).min() > 0
    ditto = dataclasses.replace(
        private(rounds=2), algorithm=registry.options('ditto')()
    )
    assert np.abs(loop.train(ditto, data=make_data()).weights[0]).min() > 0


@pytest.mark.parametrize(
    ('changed', 'words'),
    [
        ({'weighting': 'examples'}, 'give --weighting=uniform'),
        ({'early_stop_patience': 2}, 'early_stop_patience chooses by the test'),
        ({'export': 'best'}, 'export=best chooses by the test examples'),
    ],
)
def test_what_would_make_the_promise_false_is_refused(changed, words):
    made = private()
    training = dataclasses.replace(made.training, **changed)
    with pytest.raises(UserError, match=words):
        dataclasses.replace(made, training=training).check()


@pytest.mark.parametrize(
    'privacy', [Central(), Central(noise_multiplier=1.0, target_epsilon=1.0)]
)
def test_noise_is_given_once(privacy):
    with pytest.raises(UserError, match='needs --central.noise_multiplier or'):
        loop.train(private(privacy), data=make_data())


def clipped_step(weights, x, y, clip):
    """One step of DP-SGD at rate 0.1, whose noise is of no size."""
    kernel, bias = weights
    logits = x @ kernel + bias
    odds = np.exp(logits - logits.max(1, keepdims=True))
    error = odds / odds.sum(1, keepdims=True) - np.eye(CLASSES)[y]
    total = [np.zeros_like(w) for w in weights]
    for a, e in zip(x, error, strict=True):
        each = [np.outer(a, e), e]
        norm = np.sqrt(sum(np.sum(g**2) for g in each))
        total = [t + g * min(1, clip / norm) for t, g in zip(total, each, strict=True)]
    return [w - 0.1 * t / len(x) for w, t in zip(weights, total, strict=True)]


def test_clients_clip_the_gradient_of_each_example(made_cohorts):
    of = PerExample(noise_multiplier=1e-7, clip=0.3)
    result = loop.train(private(of, seed=3), data=make_data())
    weights = [np.zeros((SIZE, CLASSES)), np.zeros(CLASSES)]
    for cohort in made_cohorts:
        deltas = []
        for client in range(len(cohort)):
            mine, after = one_client(cohort, client), weights
            for first in range(0, mine.row_splits[1], mine.batch_size):
                rows = slice(first, min(first + mine.batch_size, mine.row_splits[1]))
                x, y = (mine.examples[name][rows] for name in 'xy')
                after = clipped_step(after, x.astype(np.float64), y, 0.3)
            deltas.append([b - a for a, b in zip(weights, after, strict=True)])
        mean = [np.mean(each, axis=0) for each in zip(*deltas, strict=True)]
        weights = [w + m for w, m in zip(weights, mean, strict=True)]
    for found, expected in zip(result.weights, weights, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert [len(cohort) for cohort in made_cohorts] == [3] * 4


@pytest.mark.slow
def test_the_noise_of_gradients_has_its_deviation():
    # At a clip of nearly nothing there is noise alone, in batches of 5, 5 and 2.
    of = PerExample(noise_multiplier=1e6, clip=1e-6)
    result = loop.train(
        private(of, rounds=40, evaluate_every=40, seed=1), data=make_data()
    )
    moved = np.concatenate([w.ravel() for w in result.weights])
    deviation = 0.1 * np.sqrt(40 / 3 * (1 / 5**2 + 1 / 5**2 + 1 / 2**2))
    assert 0.6 * deviation < np.sqrt(np.mean(moved**2)) < 1.5 * deviation


@pytest.mark.parametrize('kind', [n for n in kinds.NAMES if n != 'none'])
def test_every_method_is_refused_or_not_with_each_kind_of_privacy(kind):
    refused = registry.BESIDE_THE_MEAN
    if kind in kinds.OF_EXAMPLES:
        refused = set(registry.NAMES) - set(registry.BY_ONE_GRADIENT)
    for name in registry.NAMES:
        weighting = 'examples' if name in registry.OF_ALL else 'uniform'
        of = kinds.options(kind)(noise_multiplier=1.0)
        made = dataclasses.replace(config_of(name, weighting=weighting), privacy=of)
        if name in refused:
            with pytest.raises(
                UserError, match=f'--privacy={kind} adds noise to .*use'
            ):
                made.check()
        else:
            made.check()


@pytest.mark.slow
@pytest.mark.parametrize(
    # Those of test_gan_runs.py train on images.
    'name',
    walks.over([n for n in registry.NAMES if n not in registry.OF_GANS]),
)
def test_every_method_is_private_or_refused(name):
    made = config_of(name, rounds=2, weighting='uniform')
    if name in registry.OF_ALL:
        training = dataclasses.replace(made.training, weighting='examples')
        made = dataclasses.replace(made, training=training)
    made = dataclasses.replace(made, privacy=CENTRAL)
    if name in registry.BESIDE_THE_MEAN:
        with pytest.raises(UserError, match='sends more or nothing'):
            loop.train(made, data=make_data())
        return
    stage = None
    make = stages.Stage.__init__

    def remembering(self, *arguments, **named):
        nonlocal stage
        stage = self
        make(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages.Stage, '__init__', remembering)
        result = loop.train(made, data=make_data())
    # All that leaves a client goes through the mechanism.
    assert stage._composed.only_mean
    assert result.rows[-1]['privacy/epsilon'] > 0
    assert len(result.setup.seen) < CLIENTS


def test_features_are_scaled_by_each_example_alone():
    draw = np.random.default_rng(0)
    x = draw.normal(3, 2, size=(4, 50)).astype(np.float32)
    found = ByExample()(x)
    mean, deviation = x.mean(1, keepdims=True), np.sqrt(x.var(1) + EPSILON)[:, None]
    np.testing.assert_allclose(found, (x - mean) / deviation, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ByExample()(x[1:2]), found[1:2], rtol=1e-6)

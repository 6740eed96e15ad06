"""Runs whose clients are chosen by each rule, and what is refused."""

import dataclasses

import killing
import numpy as np
import pytest
import scipy.special
import walks
from test_algorithms import from_command_line
from test_loop import (
    CLASSES,
    SIZE,
    TRAIN,
    cohorts,  # noqa: F401
    make_config,
    make_data,
    numpy_round,
)

from tff_transfer import options
from tff_transfer.data.federated import split_clients
from tff_transfer.errors import UserError
from tff_transfer.simulation.selection.adaptive import Adaptive
from tff_transfer.simulation.selection.class_balance import ClassBalance
from tff_transfer.simulation.selection.oort import Oort
from tff_transfer.simulation.selection.poisson import Poisson
from tff_transfer.simulation.selection.power_of_choice import PowerOfChoice
from tff_transfer.simulation.selection.registry import RULES
from tff_transfer.training import loop, participants
from tff_transfer.training.config import Config

slow = pytest.mark.slow
# By chance, and by what was observed; others are quick.
OF_EACH_KIND = ('poisson', 'oort')
SEEN = 8
MODEL = 4 * (SIZE * CLASSES + CLASSES)


def selected(rule, **training):
    return dataclasses.replace(make_config(**training), selection=rule)


@pytest.fixture
def rounds(monkeypatch):
    """Who took part in each round, and what is observed after it."""
    found, observed = [], participants.Participants.observed

    def spy(self, before, turnout, round_number, losses_of):
        after = observed(self, before, turnout, round_number, losses_of)
        found.append((turnout, after))
        return after

    monkeypatch.setattr(participants.Participants, 'observed', spy)
    return found


def losses_of_seen(weights):
    """Returns the losses of a linear model on seen clients' training examples.

    [clients, examples]; of clients by their numbers among the seen ones.
    """
    data, (kernel, bias) = make_data(), weights
    found = []
    for client in split_clients(len(data), 0.2, 0)[0]:
        rows = data.train_rows(client)
        shares = scipy.special.log_softmax(data.x[rows] @ kernel + bias, axis=1)
        found.append(-shares[np.arange(TRAIN), data.y[rows]])
    return np.array(found)


START = [np.zeros((SIZE, CLASSES)), np.zeros(CLASSES)]


def test_power_of_choice_asks_for_losses_at_the_price_of_a_model(rounds, cohorts):  # noqa: F811
    made = selected(PowerOfChoice(d=SEEN), rounds=4)
    result = loop.train(made, data=make_data())
    weights = START
    for number, ((turnout, observed), cohort) in enumerate(
        zip(rounds, cohorts, strict=True)
    ):
        losses = losses_of_seen(weights).mean(axis=1)
        if number:  # The first model has the same loss on all.
            assert list(turnout.clients) == list(np.argsort(-losses)[:3])
        assert turnout.asked == SEEN - 3 and observed == ()
        weights = numpy_round(weights, cohort, 0.1)
    for row in result.rows[1:]:
        assert (row['bytes/down'], row['bytes/up']) == (SEEN * MODEL, 3 * (MODEL + 4))


def test_what_is_observed_is_of_the_model_that_clients_got(rounds, cohorts):  # noqa: F811
    result = loop.train(selected(Oort(), rounds=5), data=make_data())
    weights = START
    expected = {
        'squared_losses': np.full(SEEN, np.nan),
        'last': np.zeros(SEEN),
        'seconds': np.full(SEEN, np.nan),
    }
    for number, ((turnout, observed), cohort) in enumerate(
        zip(rounds, cohorts, strict=True), 1
    ):
        squares = np.square(losses_of_seen(weights)).mean(axis=1)
        expected['squared_losses'][turnout.clients] = squares[turnout.clients]
        expected['last'][turnout.clients] = number
        assert set(observed) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(observed[name], values, rtol=1e-4)
        weights = numpy_round(weights, cohort, 0.1)
    assert len(np.unique(expected['last'])) > 2
    assert all(row['bytes/down'] == 3 * MODEL for row in result.rows[1:])


def test_clients_whose_work_is_dropped_tell_nothing(rounds):
    made = selected(
        ClassBalance(),
        rounds=2,
        client_epochs=2,
        min_client_epochs=1,
        straggler_fraction=0.4,
        drop_stragglers=True,
    )
    loop.train(made, data=make_data())
    times = np.zeros(SEEN)
    for turnout, observed in rounds:
        assert np.count_nonzero(turnout.epochs) == 2
        times[turnout.clients[turnout.epochs > 0]] += 1
        np.testing.assert_array_equal(observed['times'], times)


def test_a_round_without_clients_changes_nothing(rounds, cohorts):  # noqa: F811
    made = selected(Poisson(), clients_per_round=1, rounds=4, seed=4)
    result = loop.train(made, data=make_data())
    weights, empty = START, 0
    for (turnout, _), cohort, row in zip(rounds, cohorts, result.rows[1:], strict=True):
        count = len(turnout.clients)
        assert (row['bytes/down'], row['bytes/up']) == (
            count * MODEL,
            count * (MODEL + 4),
        )
        empty += not count
        if count:
            weights = numpy_round(weights, cohort, 0.1)
    assert 0 < empty < 4
    for ours, theirs in zip(result.weights, weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    'flags',
    [
        *(
            pytest.param(
                [f'--selection={name}'],
                id=name,
                marks=[slow, *walks.marks(name, OF_EACH_KIND)],
            )
            for name in RULES.NAMES
            if name not in ('roundrobin', 'powerofchoice')
        ),
        pytest.param(
            [
                '--selection=powerofchoice',
                '--powerofchoice.stale',
                '--powerofchoice.d=5',
            ],
            id='powerofchoice',
            marks=slow,
        ),
        pytest.param(
            ['--selection=roundrobin', '--roundrobin.separation=2'], id='roundrobin'
        ),
    ],
)
def test_each_rule_is_a_flag_and_a_run(flags):
    found = from_command_line(*flags)
    assert set(options.to_flags(found)) == {*flags} - {'--selection=uniform'}
    assert options.from_dict(Config, options.to_dict(found)) == found
    result = loop.train(selected(found.selection, rounds=2), data=make_data())
    assert all(np.isfinite(weight).all() for weight in result.weights)
    assert len(result.rows) == 3


@slow
@pytest.mark.parametrize(
    'rule',
    [
        Oort(),
        pytest.param(PowerOfChoice(), marks=pytest.mark.walk),
        PowerOfChoice(stale=True),
        pytest.param(Adaptive(), marks=pytest.mark.walk),
        pytest.param(ClassBalance(), marks=pytest.mark.walk),
    ],
    ids=str,
)
def test_a_killed_run_chooses_the_same_clients(rule, rounds, tmp_path, monkeypatch):
    made = selected(rule, rounds=6, checkpoint_every=1)
    whole = loop.train(made, data=make_data())
    expected = [turnout.clients.tolist() for turnout, _ in rounds]
    rounds.clear()
    seen = killing.at(monkeypatch, 5)
    with pytest.raises(killing.Killed):
        loop.train(made, tmp_path, data=make_data())
    resumed = loop.train(made, tmp_path, data=make_data())
    assert seen == [1, 2, 3, 4, 5, 5, 6]
    assert [turnout.clients.tolist() for turnout, _ in rounds] == expected
    for ours, theirs in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (
            '--selection=roundrobin --privacy=central --weighting=uniform'
            ' --central.noise_multiplier=1',
            'but --privacy=central accounts for how its own mechanism draws them',
        ),
        (
            '--selection=poisson --privacy=perexample --perexample.noise_multiplier=1',
            '--privacy=perexample accounts',
        ),
        ('--selection=byexamples --algorithm=central', 'all take part with --algorith'),
        ('--selection=oort --algorithm=ridge', 'all take part with --algorithm=ridge'),
        (
            '--selection=powerofchoice --aggregation=secure',
            'sums alone, no current losses of single clients; leave it out',
        ),
        (
            '--selection=classbalance --aggregation=secure',
            'sums alone, no labels of single clients; leave it out',
        ),
        (
            '--selection=oort --aggregation=secure',
            'no squared losses of single clients',
        ),
        ('--selection=poisson --aggregation=secure', 'to know how many there are'),
        ('--selection=byloss --algorithm=local', '--algorithm=local each is alone'),
        (
            '--selection=adaptive --algorithm=ifca',
            'each takes one of several models; leave it out',
        ),
        (
            '--selection=powerofchoice --algorithm=fedper',
            'but it goes by the losses of one model that all get, but with'
            ' --fedper.parts=head these stay with each client',
        ),
        (
            '--selection=oort --finetune=all --batch_norm=local',
            'with --batch_norm=local layers stay with each client',
        ),
        ('--selection=oort --oort.alpha=1', '--oort.alpha is for clients that take'),
        ('--selection=oort --powerofchoice.d=3', 'is for --selection=powerofchoice'),
        ('--selection=powerofchoice --powerofchoice.d=0', 'but must be at least 1'),
    ],
)
def test_what_a_rule_does_not_go_with_is_refused(flags, words):
    with pytest.raises(UserError, match=words):
        from_command_line(*flags.split()).check()


@pytest.mark.parametrize(
    'flags',
    [
        '--selection=byexamples --aggregation=secure',
        '--selection=roundrobin --aggregation=secure',
        '--selection=classbalance --algorithm=fedper',
        '--selection=roundrobin --algorithm=local',
        '--selection=byloss --algorithm=ditto',
        '--selection=uniform --privacy=perexample --perexample.noise_multiplier=1',
    ],
)
def test_what_it_goes_with_is_not(flags):
    from_command_line(*flags.split()).check()


def test_too_many_candidates_are_told_before_the_first_round():
    with pytest.raises(UserError, match='--powerofchoice.d=9 candidates'):
        loop.train(selected(PowerOfChoice(d=9)), data=make_data())

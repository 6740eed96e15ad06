"""Rounds on devices: the clock, who is late, and how a killed run goes on."""

import dataclasses

import numpy as np
import pytest
from test_finetuned_runs import config as finetuned_config
from test_finetuned_runs import small_backbone  # noqa: F401
from test_loop import make_config, make_data

from tff_transfer import models
from tff_transfer.aggregation.secure import Secure
from tff_transfer.algorithms.central import Central
from tff_transfer.algorithms.scaffold import Scaffold
from tff_transfer.data import synthetic_writers
from tff_transfer.data.federated import split_clients
from tff_transfer.errors import UserError
from tff_transfer.models import operations
from tff_transfer.privacy.central import Central as CentralPrivacy
from tff_transfer.privacy.distributed import Distributed
from tff_transfer.simulation.fleet.day_night import DayNight
from tff_transfer.simulation.fleet.drawn import Drawn
from tff_transfer.simulation.fleet.ideal import Ideal
from tff_transfer.simulation.fleet.trace import Trace
from tff_transfer.simulation.selection.oort import Oort
from tff_transfer.simulation.selection.round_robin import RoundRobin
from tff_transfer.training import loop, stages
from tff_transfer.training.client_states import took_part
from tff_transfer.training.config import Config
from tff_transfer.training.runtimes import use_runtime

SIMULATED = 'time/simulated_s'
_STRAGGLERS = {'drop_stragglers': True, 'straggler_fraction': 0.4}


def config_of(fleet, algorithm=None, **training):
    """Returns a configuration of softmax regression on a fleet."""
    made = dataclasses.replace(make_config(**training), fleet=fleet)
    return made if algorithm is None else dataclasses.replace(made, algorithm=algorithm)


def trace_of(folder, data, computation, behaviour=None, **options):
    """Returns a trace by client: milliseconds an example, and times of being there."""
    rows = [f'{n},{c},1e12' for n, c in zip(data.client_ids, computation, strict=True)]
    (folder / 'capacity.csv').write_text(
        '\n'.join(['client,computation,communication', *rows])
    )
    paths = [str(folder / 'capacity.csv')]
    if behaviour is not None:
        rows = [
            f'{n},{b},1000' for n, b in zip(data.client_ids, behaviour, strict=True)
        ]
        (folder / 'behaviour.csv').write_text(
            '\n'.join(['client,active,inactive,finish_time', *rows])
        )
        paths.append(str(folder / 'behaviour.csv'))
    return Trace(path=tuple(paths), **options)


def column(result, name):
    """Returns a column from round 1 on."""
    return [row[name] for row in result.rows[1:]]


def test_operations_by_hand():
    model = models.mlp((20,), 5, (7,))
    forward = 2 * (20 * 7 + 7 * 5) + 7 + 5  # Products and biases.
    assert operations.of_training(model) == 3 * forward


def test_the_clock_and_bytes_of_a_run_by_hand(tmp_path):
    data = make_data()
    seen, _ = split_clients(len(data), 0.2)
    milliseconds = 1.0 + np.arange(len(data)) ** 2
    # The forward pass of the model takes what the trace was measured with: products
    # and biases of softmax regression.
    forward = 2 * data.x.shape[1] * data.num_classes + data.num_classes
    fleet = trace_of(tmp_path, data, milliseconds, flops=float(forward))
    wanted, asked = 3, len(seen)
    result = loop.train(
        config_of(fleet, clients_per_round=wanted, over_selection=asked / wanted),
        data=data,
    )
    # All are asked in each round; the fastest three of them are used.
    durations = np.sort(3 * data.num_train[seen] * milliseconds[seen] / 1000)
    each = durations[wanted - 1]
    np.testing.assert_allclose(column(result, SIMULATED), each * np.arange(1, 5))
    assert result.rows[0][SIMULATED] == 0
    weights = 4 * sum(np.size(weight) for weight in result.weights)
    assert column(result, 'bytes/down') == [asked * weights] * 4
    sends = result.rows[1]['bytes/up'] / asked  # Late ones send too.
    assert sends in range(weights, weights + 9)
    assert column(result, 'train/clients') == [wanted] * 4


@pytest.mark.slow
def test_a_deadline_ends_rounds(tmp_path):
    data = make_data()
    seen, _ = split_clients(len(data), 0.2)
    milliseconds = 1.0 + np.arange(len(data)) ** 2
    forward = 2 * data.x.shape[1] * data.num_classes + data.num_classes
    fleet = trace_of(tmp_path, data, milliseconds, flops=float(forward))
    durations = np.sort(3 * data.num_train[seen] * milliseconds[seen] / 1000)
    wanted, asked = 3, len(seen)
    slowest = durations[wanted - 2]
    late = loop.train(
        config_of(
            fleet,
            clients_per_round=wanted,
            over_selection=asked / wanted,
            deadline=float(slowest + 1e-3),
        ),
        data=data,
    )
    np.testing.assert_allclose(
        column(late, SIMULATED), (slowest + 1e-3) * np.arange(1, 5)
    )
    assert column(late, 'train/clients') == [wanted - 1] * 4


@pytest.mark.slow
def test_rounds_without_a_survivor_change_no_weight():
    result = loop.train(config_of(Drawn(), deadline=1e-6), data=make_data())
    assert column(result, 'train/clients') == [0] * 4
    np.testing.assert_allclose(column(result, SIMULATED), 1e-6 * np.arange(1, 5))
    assert not any(weight.any() for weight in result.weights)  # As it began.
    assert column(result, 'train/loss') == [None] * 4
    assert all(sent > 0 for sent in column(result, 'bytes/up'))


def test_the_clock_waits_until_somebody_is_there(tmp_path):
    data = make_data()
    seen, _ = split_clients(len(data), 0.2)
    first, second = seen[:2]
    behaviour = [','] * len(data)
    behaviour[first], behaviour[second] = '400,410', '400 700,410 800'
    flops = float(2 * data.x.shape[1] * data.num_classes + data.num_classes)
    ones = np.full(len(data), 100.0)
    fleet = trace_of(tmp_path, data, ones, behaviour, flops=flops)
    assert (data.num_train == 12).all()  # So a round takes 3 x 12 x 0.1 s.
    result = loop.train(config_of(fleet), data=data)
    # Both leave at 410, before they would have reported in the third round.
    np.testing.assert_allclose(column(result, SIMULATED), [403.6, 407.2, 410.8, 703.6])
    assert column(result, 'train/clients') == [2, 2, 0, 1]


class Killed(BaseException):
    """What ends a process."""


@pytest.mark.slow
def test_a_killed_run_with_absent_clients_ends_as_one_that_was_not(
    tmp_path, monkeypatch
):
    data = make_data()
    draw = np.random.default_rng(3)
    starts = draw.integers(0, 900, len(data))
    fleet = trace_of(
        tmp_path,
        data,
        draw.uniform(10, 90, len(data)),
        [f'{start},{start + 90}' for start in starts],
        flops=200.0,
        dropout=0.3,
    )
    config = config_of(fleet, Scaffold(), rounds=6, over_selection=1.2, deadline=50.0)
    whole = loop.train(config, tmp_path / 'whole', data=data)
    asked = [down / 1e3 for down in column(whole, 'bytes/down')]
    assert min(asked) < max(asked)  # Some were absent.

    original = stages.Stage.next

    def killed_in_the_middle(self, state, number):
        found = original(self, state, number)
        if number == 5:
            raise Killed
        return found

    with monkeypatch.context() as patch:
        patch.setattr(stages.Stage, 'next', killed_in_the_middle)
        with pytest.raises(Killed):
            loop.train(config, tmp_path / 'killed', data=data)
    again = loop.train(config, tmp_path / 'killed', data=data)
    for ours, theirs in zip(whole.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name in (SIMULATED, 'bytes/up', 'bytes/down', 'train/clients', 'train/loss'):
        assert column(whole, name) == column(again, name)

    path = tmp_path / 'capacity.csv'
    path.write_text(path.read_text() + '\nanother,1,1')
    with pytest.raises(UserError, match='whose trace_0 was capacity.csv'):
        loop.train(config, tmp_path / 'whole', data=data)


@pytest.mark.slow
def test_who_drops_out_keeps_what_it_had():
    data = make_data()
    config = config_of(Drawn(dropout=0.5), Scaffold(), rounds=1, clients_per_round=6)
    result = loop.train(config, data=data)
    survived = result.rows[1]['train/clients']
    assert 0 < survived < 6
    stage = stages.stages(config, result.setup)[0]
    with use_runtime(config.training):
        after, _ = stage.next(stage.initialize(), 1)
    assert np.count_nonzero(took_part(after['kept'])) == survived


@pytest.mark.slow
def test_drop_outs_send_nothing():
    data = make_data()
    plain = loop.train(make_config(rounds=1), data=data).rows[1]
    lossy = config_of(Drawn(dropout=0.5), rounds=5)
    for row in loop.train(lossy, data=data).rows[1:]:
        assert row['bytes/down'] == plain['bytes/down']
        assert row['bytes/up'] * 3 == plain['bytes/up'] * row['train/clients']


@pytest.mark.slow
def test_ideal_devices_have_no_time():
    assert SIMULATED not in loop.train(make_config(rounds=1), data=make_data()).rows[0]


@pytest.mark.slow
def test_nothing_is_told_of_time_where_something_is_promised():
    privacy = CentralPrivacy(clip=1.0, noise_multiplier=1.0)
    config = dataclasses.replace(
        config_of(Drawn(dropout=0.5), rounds=2, weighting='uniform', seed=1),
        privacy=privacy,
    )
    assert SIMULATED not in loop.train(config, data=make_data()).rows[-1]


@pytest.mark.slow
def test_the_clock_goes_on_where_another_stage_begins(
    tmp_path,
    monkeypatch,
    small_backbone,  # noqa: F811
):
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'cache'))
    data = synthetic_writers.generate(6, 8, seed=1, classes=10)
    made = finetuned_config(finetune='head_then_all', head_rounds=2)
    made = dataclasses.replace(
        made, training=dataclasses.replace(made.training, rounds=4), fleet=Drawn()
    )
    clock = [row[SIMULATED] for row in loop.train(made, data=data).rows]
    assert all(a < b for a, b in zip(clock, clock[1:], strict=False))


@pytest.mark.parametrize(
    'fleet, more, said',
    [
        (
            Ideal(),
            {'deadline': 3.0},
            '--deadline is for --fleet=drawn',
        ),
        (Ideal(), {'over_selection': 2.0}, '--over_selection is for --fleet=drawn'),
        (Trace(), {}, '--fleet=trace needs --trace.path'),
        (
            Drawn(),
            {
                'min_client_epochs': 1,
                'drop_stragglers': True,
                'straggler_fraction': 0.5,
            },
            'use --deadline',
        ),
        (
            DayNight(),
            {'privacy': CentralPrivacy()},
            'with --fleet=daynight it',
        ),
        (
            Drawn(),
            {'privacy': CentralPrivacy(), 'deadline': 5.0},
            'with --deadline it hangs on how many examples',
        ),
        (
            Drawn(dropout=0.1),
            {'privacy': Distributed()},
            'with --drawn.dropout some would not send',
        ),
        (Drawn(dropout=0.1), {'aggregation': Secure()}, 'with --drawn.dropout clients'),
    ],
)
def test_what_does_not_go_together_is_one_line(fleet, more, said):
    parts = ('algorithm', 'selection', 'privacy', 'aggregation')
    training = {name: value for name, value in more.items() if name not in parts}
    config = config_of(fleet, **training)
    config = dataclasses.replace(config, **{p: more[p] for p in parts if p in more})
    with pytest.raises(UserError, match=said) as caught:
        config.check()
    assert '\n' not in str(caught.value)


def test_methods_in_which_all_take_part_have_no_devices():
    with pytest.raises(UserError, match='all take part at once'):
        Config(fleet=Drawn(), algorithm=Central()).check()


def test_more_clients_than_there_are_is_one_line():
    config = config_of(Drawn(), clients_per_round=5, over_selection=1.9)
    with pytest.raises(UserError, match='asks 10 clients in a round, but toy has'):
        loop.train(config, data=make_data())


def test_clients_that_are_never_there_are_one_line(tmp_path):
    data = make_data()
    _, unseen = split_clients(len(data), 0.2)
    behaviour = [','] * len(data)
    behaviour[unseen[0]] = '1,2'
    fleet = trace_of(tmp_path, data, np.ones(len(data)), behaviour)
    with pytest.raises(UserError, match='none of the clients that train is ever'):
        loop.train(config_of(fleet), data=data)


@pytest.mark.slow
@pytest.mark.parametrize('rule', [Oort(), RoundRobin()], ids=['oort', 'roundrobin'])
def test_rules_of_selection_go_on_with_absent_clients(rule, tmp_path):
    data = make_data()
    starts = np.random.default_rng(3).integers(0, 900, len(data))
    behaviour = [f'{start},{start + 90}' for start in starts]
    duration = np.linspace(50, 500, len(data))
    fleet = trace_of(tmp_path, data, duration, behaviour, flops=33.0)
    config = dataclasses.replace(config_of(fleet, over_selection=1.5), selection=rule)
    config.check()
    setup = loop.train(
        dataclasses.replace(
            config,
            fleet=Ideal(),
            training=dataclasses.replace(config.training, rounds=0, over_selection=1.0),
        ),
        data=data,
    ).setup
    (stage,) = stages.stages(config, setup)
    with use_runtime(config.training):
        state, before = stage.initialize(), 0.0
        for number in range(1, 9):
            turnout = stage.participants.turnout(state['observed'], number, None)
            asked = setup.seen[turnout.clients]
            begins = fleet.fleet(data.client_ids, 0).availability.first(
                before, setup.seen
            )
            there = (begins - starts[asked]) % 1000 < 90
            assert there.all()
            state, _ = stage.next(state, number)
            before = float(state['observed']['clock'])
    if isinstance(rule, Oort):
        known = np.isfinite(state['observed']['seconds'])
        expected = 3 * 12 * duration[setup.seen] / 1000
        assert known.any()
        np.testing.assert_allclose(state['observed']['seconds'][known], expected[known])

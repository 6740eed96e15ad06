"""Runs whose server steps as clients report, beside the papers' formulas in NumPy."""

import dataclasses
import heapq

import numpy as np
import pytest
from test_loop import CLASSES, SIZE, make_config, make_data, numpy_round

from tff_transfer.aggregation.coordinates import Median
from tff_transfer.aggregation.secure import Secure
from tff_transfer.algorithms import MOON, FedAvg, FedProx, FedSGD, Mime, Scaffold
from tff_transfer.compression.sparse import TopK
from tff_transfer.data.cohorts import Cohort
from tff_transfer.data.federated import split_clients
from tff_transfer.errors import UserError
from tff_transfer.privacy.per_example import PerExample
from tff_transfer.simulation.fleet import fleet
from tff_transfer.simulation.fleet.day_night import DayNight
from tff_transfer.simulation.fleet.drawn import Drawn
from tff_transfer.simulation.fleet.ideal import Ideal
from tff_transfer.simulation.selection.round_robin import RoundRobin
from tff_transfer.simulation.timing.ca2fl import CA2FL
from tff_transfer.simulation.timing.fed_async import FedAsync
from tff_transfer.simulation.timing.fed_buff import FedBuff
from tff_transfer.training import asynchronous, devices, loop, participants
from tff_transfer.training.columns import SIMULATED

EQUAL = Drawn(speed_spread=0.0, bandwidth_spread=0.0)
# Seconds of each client of the toy data.
TAKES = np.array([1, 7, 2.5, 11, 4, 19, 1.5, 3, 6, 13.0])
SEEN = 8


def timed(timing, fleet=None, **training):
    if isinstance(timing, FedAsync):  # It mixes weights.
        training = {
            'server_optimizer': 'adam',
            'server_learning_rate': 0.02,
            **training,
        }
    if isinstance(timing, CA2FL):
        training['weighting'] = 'uniform'
    made = make_config(**training)
    return dataclasses.replace(made, timing=timing, fleet=fleet or Drawn())


class Spied:
    """What a run asked, and trained on."""

    def __init__(self, monkeypatch):
        self.asked, self.cohorts = [], []
        chosen = participants.Participants.chosen
        make = participants.training_cohort

        def asked(*arguments, **named):
            found = chosen(*arguments, **named)
            self.asked.append(found.clients)
            return found

        def made(*arguments, **named):
            self.cohorts.append(make(*arguments, **named))
            return self.cohorts[-1]

        monkeypatch.setattr(participants.Participants, 'chosen', asked)
        monkeypatch.setattr(participants, 'training_cohort', made)
        monkeypatch.setattr(
            devices.Devices, 'seconds', lambda self, clients, epochs: TAKES[clients]
        )


@pytest.fixture
def spied(monkeypatch):
    return Spied(monkeypatch)


def one_client(cohort, client):
    rows = slice(*cohort.row_splits[client : client + 2])
    examples = {name: array[rows] for name, array in cohort.examples.items()}
    return Cohort(examples, np.array([0, rows.stop - rows.start]), cohort.batch_size)


def by_heap(spied, seen, waits_for, steps, follow, places=3):
    """The steps of a server as a discrete-event simulation.

    `follow` makes of (weights, reports, step) the next weights; a report is of (client,
    version, the weights it got, those it came to).
    """
    asked, under_way, order = iter(spied.asked), [], 0
    weights, clock = [np.zeros((SIZE, CLASSES)), np.zeros(CLASSES)], 0.0
    clocks, staleness = [], []
    for step in range(steps):
        reports, trained = [], 0
        while len(reports) < waits_for:
            idle = not under_way or under_way[0][0] > clock
            if idle and len(under_way) < places:
                for client in next(asked):
                    assert client not in [entry[2] for entry in under_way]
                    own = numpy_round(
                        weights, one_client(spied.cohorts[step], trained), 0.1
                    )
                    entry = (clock + TAKES[seen[client]], order, client, step)
                    heapq.heappush(under_way, (*entry, weights, own))
                    order, trained = order + 1, trained + 1
            clock, _, *report = heapq.heappop(under_way)
            reports.append(report)
        assert trained == len(spied.cohorts[step])
        clocks.append(clock)
        staleness.append([step - version for _, version, _, _ in reports])
        weights = follow(weights, reports, step)
    return weights, clocks, staleness


def close(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
        assert np.abs(theirs).max() > 0.01


def test_equal_devices_and_a_buffer_of_a_cohort_are_federated_averaging():
    rounds = dataclasses.replace(make_config(), fleet=EQUAL)
    averaging = loop.train(rounds, data=make_data())
    result = loop.train(
        timed(FedBuff(buffer=3, staleness='constant'), EQUAL), data=make_data()
    )
    for found, expected in zip(result.weights, averaging.weights, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert [row['server/staleness_max'] for row in result.rows[1:]] == [0] * 4
    for row, expected in zip(result.rows, averaging.rows, strict=True):
        for name, value in expected.items():
            if name == SIMULATED or not name.startswith('time/'):
                assert row[name] == value


@pytest.mark.parametrize(
    'runtime', ['compiled', pytest.param('stock', marks=pytest.mark.slow)]
)
def test_fed_buff_is_nguyens(spied, runtime):
    rounds = 6 if runtime == 'compiled' else 3
    config = timed(
        FedBuff(buffer=2),
        rounds=rounds,
        weighting='uniform',
        server_learning_rate=0.7,
        runtime=runtime,
    )
    result = loop.train(config, data=make_data())

    def follow(weights, reports, step):
        after = list(weights)
        for _, version, got, own in reports:
            counts = (1 + step - version) ** -0.5
            for n in range(2):
                after[n] = after[n] - 0.7 * counts * (got[n] - own[n]) / 2
        return after

    weights, clocks, staleness = by_heap(spied, result.setup.seen, 2, rounds, follow)
    close(result.weights, weights)
    assert max(map(max, staleness)) >= (2 if rounds > 3 else 1)
    for row, clock, stale in zip(result.rows[1:], clocks, staleness, strict=True):
        assert row['time/simulated_s'] == pytest.approx(clock)
        assert row['server/staleness_max'] == max(stale)
        assert row['server/staleness_mean'] == pytest.approx(np.mean(stale))
        assert row['train/clients'] == 2
        assert row['bytes/up'] == 2 * (18 + 1) * 4
    # Three are asked at the start, and one for each that reported before the last step.
    sent = sum(row['bytes/down'] for row in result.rows[1:])
    assert sent == 18 * 4 * (3 + 2 * rounds - 1)


@pytest.mark.slow
def test_an_update_counts_by_its_examples_too(spied):
    data = make_data()
    unequal = dataclasses.replace(
        data, num_train=np.arange(6, 16), num_test=16 - np.arange(6, 16)
    )
    config = timed(FedBuff(buffer=2, staleness='hinge', slope=3.0, grace=0), rounds=5)
    result = loop.train(config, data=unequal)
    sizes = unequal.num_train[result.setup.seen]

    def follow(weights, reports, step):
        total, after = sum(sizes[client] for client, *_ in reports), list(weights)
        for client, version, got, own in reports:
            counts = sizes[client] / total / (1 + 3 * (step - version))
            for n in range(2):
                after[n] = after[n] - counts * (got[n] - own[n])
        return after

    weights, _, staleness = by_heap(spied, result.setup.seen, 2, 5, follow)
    assert max(map(max, staleness)) >= 1
    close(result.weights, weights)


def test_fed_async_is_xies(spied):
    of = FedAsync(alpha=0.7, staleness='hinge', slope=2.0, grace=1)
    result = loop.train(timed(of, rounds=9), data=make_data())

    def follow(weights, reports, step):
        ((_, version, _, own),) = reports
        stale = step - version
        share = 0.7 if stale <= 1 else 0.7 / (2 * (stale - 1) + 1)
        return [(1 - share) * x + share * o for x, o in zip(weights, own, strict=True)]

    weights, _, staleness = by_heap(spied, result.setup.seen, 1, 9, follow)
    assert max(map(max, staleness)) >= 2
    close(result.weights, weights)


def test_ca2fl_is_wangs(spied):
    config = timed(CA2FL(buffer=2), rounds=8, server_learning_rate=0.9)
    result = loop.train(config, data=make_data())
    last = [[np.zeros((SIZE, CLASSES)), np.zeros(CLASSES)] for _ in range(SEEN)]
    again = []

    def follow(weights, reports, step):
        mean = [np.mean([h[k] for h in last], axis=0) for k in range(2)]
        moved = [0.0, 0.0]
        for client, _, got, own in reports:
            update = [g - o for g, o in zip(got, own, strict=True)]
            again.append(np.any(last[client][0]))
            for k in range(2):
                moved[k] += (update[k] - last[client][k]) / 2
            last[client] = update
        return [x - 0.9 * (mean[k] + moved[k]) for k, x in enumerate(weights)]

    weights, _, _ = by_heap(spied, result.setup.seen, 2, 8, follow)
    assert any(again)
    close(result.weights, weights)


def without_time(rows):
    return [
        {k: v for k, v in row.items() if k == SIMULATED or not k.startswith('time/')}
        for row in rows
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ('timing', 'method'),
    [
        (FedAsync(), FedProx(mu=0.1)),
        pytest.param(CA2FL(buffer=2), FedAvg(), marks=pytest.mark.walk),
        pytest.param(FedBuff(buffer=2), MOON(), marks=pytest.mark.walk),
    ],
)
def test_a_run_that_ends_with_clients_under_way_goes_on_to_the_same_bits(
    timing, method, tmp_path, monkeypatch
):
    config = timed(timing, Drawn(dropout=0.2), rounds=9)
    model = dataclasses.replace(config.model, hidden_units=(4,), dropout=0.3)
    config = dataclasses.replace(config, algorithm=method, model=model)
    if isinstance(timing, FedAsync):  # Whose clients then remember what they left out.
        config = dataclasses.replace(config, compression=TopK(fraction=0.3))
    whole = loop.train(config, tmp_path / 'whole', data=make_data())
    step = asynchronous.Asynchronous.next

    def fail_at_six(self, state, round_number, loss_of):
        found = step(self, state, round_number, loss_of)
        if round_number == 6:
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(asynchronous.Asynchronous, 'next', fail_at_six)
        loop.train(config, tmp_path / 'run', data=make_data())
    again = loop.train(config, tmp_path / 'run', data=make_data())
    for found, expected in zip(again.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert without_time(again.rows) == without_time(whole.rows)
    assert max(row['server/staleness_max'] for row in again.rows[5:]) >= 1
    clocks = [row[SIMULATED] for row in again.rows]
    assert clocks == sorted(clocks) and clocks[-1] > 0


@pytest.mark.slow
def test_who_drops_out_gets_the_model_and_sends_nothing(spied, monkeypatch):
    lost = []

    def fails(self, client, number):
        lost.append((number - 1, client))
        return number % 3 == 0

    monkeypatch.setattr(fleet.Fleet, 'fails', fails)
    config = timed(FedBuff(buffer=2), rounds=6)
    result = loop.train(config, data=make_data())
    asked = [len(clients) for clients in spied.asked]
    trained = sum(len(cohort) for cohort in spied.cohorts)
    failed = sum(number % 3 == 2 for number, _ in lost)
    assert failed > 1 and trained == sum(asked) - failed
    rows = result.rows[1:]
    assert sum(row['bytes/down'] for row in rows) == 18 * 4 * sum(asked)
    assert [row['bytes/up'] for row in rows] == [2 * 19 * 4] * 6
    assert [row['train/clients'] for row in rows] == [2] * 6


@pytest.mark.slow
def test_who_goes_before_it_would_report_is_lost_and_the_next_night_waited_for():
    nights = DayNight(
        **{'speed_spread': 0.0, 'bandwidth_spread': 0.0, 'latency': 1500.0},
        **{'zones': 1, 'night': 0.0, 'hours': 1.0, 'hours_spread': 0.0},
    )
    result = loop.train(timed(FedBuff(buffer=3), nights, rounds=3), data=make_data())
    rows = result.rows[1:]
    # Those who are asked at 3000 s would report at 4500 s, but all go at 3600 s.
    clocks = [row[SIMULATED] for row in rows]
    assert clocks == pytest.approx([1500, 3000, 86400 + 1500], abs=1)
    assert [row['bytes/down'] for row in rows] == [3 * 72, 3 * 72, 6 * 72]
    assert [row['server/staleness_max'] for row in rows] == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize('timing', [FedBuff(buffer=1), FedAsync(), CA2FL(buffer=1)])
def test_an_update_that_is_not_finite_counts_for_nothing(timing, spied):
    data = make_data()
    seen, _ = split_clients(len(data), 0.2, 0)
    x = data.x.copy()
    for client in seen[::2]:
        x[np.r_[data.train_rows(client)]] = np.inf
    config = timed(timing, rounds=12, on_divergence='continue')
    result = loop.train(config, data=dataclasses.replace(data, x=x))
    rows = result.rows[1:]
    dropped = [row['train/dropped_clients'] for row in rows]
    assert {0, 1} == set(dropped)
    assert all(row['train/clients'] == 1 - row['train/dropped_clients'] for row in rows)
    assert np.isfinite(np.concatenate([w.ravel() for w in result.weights])).all()


@pytest.mark.slow
def test_a_round_of_nothing_but_such_updates_leaves_the_weights():
    data = make_data()
    x = np.where(data.is_train[:, None], np.float32(np.inf), data.x)
    config = timed(CA2FL(buffer=2), on_divergence='continue')
    result = loop.train(config, data=dataclasses.replace(data, x=x))
    assert [row['train/dropped_clients'] for row in result.rows[1:]] == [2] * 4
    assert not any(map(np.any, result.weights))


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'fleet': Ideal()}, 'give --fleet=drawn'),
        ({'algorithm': Scaffold()}, 'not defined for --algorithm=scaffold'),
        ({'algorithm': Mime()}, 'not defined for --algorithm=mime'),
        ({'timing': FedAsync(), 'algorithm': FedSGD()}, 'for --algorithm=fedsgd'),
        ({'privacy': PerExample(noise_multiplier=1.0)}, 'leave --privacy out'),
        ({'aggregation': Secure()}, 'agree on masks'),
        ({'aggregation': Median()}, 'models, which --aggregation=median would'),
        ({'selection': RoundRobin()}, '--selection=roundrobin chooses whole'),
        ({'timing': CA2FL()}, 'give --weighting=uniform'),
        ({'timing': FedBuff(staleness='hinge', exponent=1.0)}, '=polynomial, but'),
        ({'timing': FedBuff(slope=1.0)}, '--fedbuff.slope is for .*staleness=hinge'),
        ({'timing': FedBuff(buffer=9)}, 'waits for 9 clients, but .* has 8'),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(changes, said):
    timing = changes.get('timing')
    base = timing if isinstance(timing, FedAsync) else FedBuff(buffer=2)
    uniform = {'weighting': 'uniform'} if 'aggregation' in changes else {}
    config = dataclasses.replace(timed(base, **uniform), **changes)
    with pytest.raises(UserError, match=said):
        loop.train(config, data=make_data())


@pytest.mark.parametrize(
    'training', [{'server_optimizer': 'sgd'}, {'weighting': 'uniform'}]
)
def test_fed_async_has_no_server_optimizer_and_no_weights(training):
    config = timed(FedAsync(), **training)
    with pytest.raises(UserError, match='is for --timing=.*, but .* is fedasync'):
        loop.train(config, data=make_data())

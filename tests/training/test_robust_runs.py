"""Runs whose updates are combined robustly."""

import dataclasses

import numpy as np
import pytest
import walks
from absl import flags
from test_algorithms import config as config_of
from test_loop import CLASSES, CLIENTS, SIZE, make_config, make_data

from tff_transfer import options
from tff_transfer.aggregation.clipping import CentredClipping
from tff_transfer.aggregation.coordinates import Median, TrimmedMean
from tff_transfer.aggregation.geometric_median import GeometricMedian
from tff_transfer.aggregation.krum import Krum
from tff_transfer.aggregation.plain import Plain
from tff_transfer.aggregation.registry import KINDS
from tff_transfer.aggregation.robust import Robust
from tff_transfer.aggregation.trust import FLTrust, FoolsGold
from tff_transfer.algorithms import registry
from tff_transfer.compression.float16 import Float16
from tff_transfer.compression.sparse import RandomK, TopK
from tff_transfer.errors import UserError
from tff_transfer.privacy.central import Central
from tff_transfer.training import loop, participants, public_clients, stages
from tff_transfer.training.config import Config
from tff_transfer.training.model_config import ModelConfig

ROBUST = [n for n in KINDS.NAMES if issubclass(KINDS.options(n), Robust)]
# By coordinate, by whole vectors, with a memory, and beside the server's own update.
OF_EACH_KIND = ('trimmedmean', 'krum', 'centredclipping', 'fltrust')


def robust(kind, made=None, **training):
    training = {'weighting': 'uniform', 'clients_per_round': 5, **training}
    made = made or make_config()
    return dataclasses.replace(
        made,
        aggregation=kind,
        training=dataclasses.replace(made.training, **training),
    )


class Killed(Exception):
    """Ends a run in the middle of a round."""


def killed_and_resumed(made, path, monkeypatch):
    make = participants.Participants.cohort

    def dying(stage, turnout, round_number):
        if round_number == 3:
            raise Killed
        return make(stage, turnout, round_number)

    with monkeypatch.context() as patch:
        patch.setattr(participants.Participants, 'cohort', dying)
        with pytest.raises(Killed):
            loop.train(made, data=make_data(), run_dir=path)
    return loop.train(made, data=make_data(), run_dir=path)


@pytest.mark.slow
@pytest.mark.parametrize(
    'kind', [CentredClipping(radius=0.1, bucket_size=2), FoolsGold()]
)
def test_what_the_server_remembers_is_resumed(kind, tmp_path, monkeypatch):
    made = robust(kind)
    whole = loop.train(made, data=make_data())
    again = killed_and_resumed(made, tmp_path / 'run', monkeypatch)
    assert again.rows[-1]['round'] == 4
    for ours, resumed in zip(whole.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ours, resumed)
    named = {'aggregator/clipped', 'aggregator/trusted'}
    (name,) = named & set(whole.rows[-1])
    told = [[row.get(name) for row in run.rows] for run in (whole, again)]
    assert told[0] == told[1]
    assert 0 < whole.rows[-1][name] <= 5


def test_clients_that_diverge_are_left_out_of_the_median():
    data = make_data()
    poisoned = np.array(data.x)
    of_first = data.client_of_row == 0
    poisoned[of_first] = np.nan
    made = robust(Median(), rounds=1, clients_per_round=8, on_divergence='continue')
    found = loop.train(made, data=data.with_x(poisoned))
    seen = found.setup.seen
    row = found.rows[-1]
    assert row['train/dropped_clients'] == (0 in seen)
    assert row['train/clients'] == 8 - (0 in seen)
    assert all(np.isfinite(weights).all() for weights in found.weights)


@pytest.mark.slow
def test_public_clients_never_train():
    made = robust(FLTrust(public_clients=3))
    seen = np.arange(10, 18)
    trained, public = public_clients.divided(made, seen)
    assert sorted([*trained, *public]) == seen.tolist() and len(public) == 3
    setup = loop.train(made, data=make_data()).setup
    assert len(setup.seen) == 8
    (stage,) = stages.stages(made, setup)
    _, public = public_clients.divided(made, setup.seen)
    for number in range(1, 20):
        chosen = stage.participants.turnout((), number, None).clients
        chosen = stage.participants.setup.seen[chosen]
        assert not np.isin(chosen, public).any()
    with pytest.raises(UserError, match='are more than the 8 clients'):
        loop.train(robust(FLTrust(public_clients=4)), data=make_data())


def losses_of(result, public):
    """Returns the losses of seen clients' examples but for those of public ones."""
    found = result.predictions['seen']
    others = ~np.isin(result.setup.data.client_of_row[found.rows], public)
    return found.measured['loss'][others]


@pytest.mark.slow
@pytest.mark.parametrize('name', walks.over(registry.BY_PUBLIC_EXAMPLES, ['feddf']))
def test_labels_of_public_examples_reach_nothing_where_they_teach(name):
    made, data = config_of(name, rounds=3, clients_per_round=5), make_data()
    found = loop.train(made, data=data)
    _, public = public_clients.divided(made, found.setup.seen)
    assert len(public) == made.algorithm.public_clients
    theirs = np.isin(data.client_of_row, public)
    for what, change in (('y', lambda y: (y + 1) % CLASSES), ('x', lambda x: 2 * x)):
        now = np.array(getattr(data, what))
        now[theirs] = change(now[theirs])
        again = loop.train(made, data=dataclasses.replace(data, **{what: now}))
        same = np.array_equal(losses_of(found, public), losses_of(again, public))
        assert same == (what == 'y')
    with pytest.raises(UserError, match=f'--{name}.public_clients=2 are more than'):
        loop.train(config_of(name, clients_per_round=7), data=data)


@pytest.mark.slow
def test_whoever_does_as_the_server_does_is_trusted_and_nobody_else():
    """All clients have the examples of the public one, some of them mirrored."""
    data = make_data()
    rows = data.client_of_row
    first = np.flatnonzero(rows == 0)
    x, y = np.array(data.x), np.array(data.y)
    for client in range(CLIENTS):
        x[rows == client], y[rows == client] = x[first], y[first]
    made = robust(FLTrust(public_clients=1), rounds=1, batch_size=100)
    data = dataclasses.replace(data, x=x, y=y)
    found = loop.train(made, data=data)
    plain = loop.train(robust(Plain(), rounds=1, batch_size=100), data=data)
    assert found.rows[-1]['aggregator/trusted'] == 5
    for ours, theirs in zip(found.weights, plain.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    x *= 1 - 2 * (rows % 2)[:, None]  # These go the other way.
    found = loop.train(made, data=dataclasses.replace(data, x=x))
    assert 0 < found.rows[-1]['aggregator/trusted'] < 5


@pytest.mark.slow
def test_rounds_of_communication_are_bytes():
    kind = GeometricMedian(iterations=2)
    found = loop.train(robust(kind, rounds=1), data=make_data()).rows[-1]
    numbers = SIZE * CLASSES + CLASSES
    # Five clients, three messages each way: the update, and its answers with weights.
    assert found['bytes/up'] == 5 * 3 * 4 * (numbers + 1)
    assert found['bytes/down'] == 5 * 3 * 4 * numbers


@pytest.mark.parametrize(
    ('changed', 'words'),
    [
        ({'aggregation': Krum(attackers=2)}, 'needs 7 clients a round or more'),
        ({'privacy': Central(noise_multiplier=1.0)}, 'leave one of them out'),
        ({'compression': TopK()}, 'makes most 0; use another scheme'),
        ({'compression': RandomK()}, 'makes most 0; use another scheme'),
        (
            {'aggregation': GeometricMedian(), 'compression': Float16()},
            'send their updates again in each iteration',
        ),
        (
            {'model': ModelConfig(finetune='all', batch_norm='aggregate')},
            'would compare BatchNorm statistics',
        ),
        ({'algorithm': registry.options('ditto')(), 'aggregation': FLTrust()}, 'own;'),
    ],
)
def test_what_does_not_go_with_a_rule_is_refused(changed, words):
    with pytest.raises(UserError, match=words):
        dataclasses.replace(robust(Median()), **changed).check()


@pytest.mark.parametrize('name', ROBUST)
def test_clients_are_weighed_where_the_paper_weighs_them_alone(name):
    kind = KINDS.options(name)()
    made = robust(kind, weighting='examples', clients_per_round=7)
    if kind.weighted:
        made.check()
        return
    with pytest.raises(UserError, match='give --weighting=uniform'):
        made.check()


def test_every_method_is_protected_or_refused():
    for name in registry.NAMES:
        made = robust(Median(), config_of(name))
        if name in (*registry.IN_ONE_PLACE, *registry.OF_ONE_ROUND):
            made = dataclasses.replace(made, training=config_of(name).training)
        if name in registry.BESIDE_THE_MEAN:
            with pytest.raises(UserError, match='protects the mean of what clients'):
                made.check()
        else:
            made.check()


def test_sparse_updates_go_with_rules_that_compare_whole_vectors():
    dataclasses.replace(robust(Krum()), compression=TopK()).check()
    compressed = dataclasses.replace(robust(TrimmedMean()), compression=Float16())
    compressed.check()


@pytest.mark.slow
@pytest.mark.parametrize('name', walks.over(ROBUST, OF_EACH_KIND))
def test_a_run_by_flags_walks(name):
    values = flags.FlagValues()
    options.define_flags(Config, values)
    given = [f'--aggregation={name}', '--weighting=uniform', '--algorithm=fedprox']
    if hasattr(KINDS.options(name), 'bucket_size') and name not in ('krum', 'bulyan'):
        given.append(f'--{name}.bucket_size=2')
    if name in ('multikrum', 'bulyan'):
        given.append(f'--{name}.attackers=0')
    if name == 'trimmedmean':
        given.append('--trimmedmean.trimmed=0.4')
    values(['a program', *given])
    asked = options.from_flags(Config, values)
    made = robust(asked.aggregation, clients_per_round=6)
    made = dataclasses.replace(made, algorithm=asked.algorithm)
    made.check()
    found = loop.train(made, data=make_data())
    assert found.rows[-1]['seen/loss'] < found.rows[0]['seen/loss']
    # It is read back from what config.json holds.
    again = options.from_dict(Config, options.to_dict(made))
    assert again == made

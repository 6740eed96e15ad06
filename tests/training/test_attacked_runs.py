"""Runs some of whose clients are hostile."""

import dataclasses
import functools

import killing
import numpy as np
import pytest
import walks
from test_algorithms import config as config_of
from test_algorithms import from_command_line
from test_compressed_runs import clients_of, flat
from test_loop import (
    CLASSES,
    SIZE,
    cohorts,  # noqa: F401
    make_config,
    make_data,
    numpy_round,
)

from tff_transfer import backbones, runtime
from tff_transfer.aggregation.secure import Secure
from tff_transfer.aggregation.trust import FLTrust, FoolsGold
from tff_transfer.algorithms import registry
from tff_transfer.attacks import registry as attacks
from tff_transfer.attacks.alie import ALIE
from tff_transfer.attacks.backdoor import Backdoor
from tff_transfer.attacks.gaussian_noise import GaussianNoise
from tff_transfer.attacks.ipm import IPM
from tff_transfer.attacks.label_flip import LabelFlip
from tff_transfer.attacks.min_max import MinMax
from tff_transfer.attacks.nothing import NoAttack
from tff_transfer.attacks.sign_flip import SignFlip
from tff_transfer.data import synthetic_writers
from tff_transfer.data.federated import FederatedData, split_clients
from tff_transfer.errors import UserError
from tff_transfer.models import mlp
from tff_transfer.privacy.central import Central
from tff_transfer.privacy.local import Local
from tff_transfer.simulation.fleet.drawn import Drawn
from tff_transfer.simulation.timing.fed_buff import FedBuff
from tff_transfer.training import hostile, loop, public_clients, stages
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig

slow = pytest.mark.slow
KINDS = [attacks.KINDS.options(name)() for name in attacks.ATTACKS]
# Of labels, of images, and of an update by those of the others.
OF_EACH_KIND = ('labelflip', 'backdoor', 'minmax')
WALK = [
    pytest.param(attack, id=name, marks=walks.marks(name, OF_EACH_KIND))
    for name, attack in zip(attacks.ATTACKS, KINDS, strict=True)
]


def attacked(attack, made=None, **training):
    made = made or make_config(**{'attackers': 0.4, **training})
    return dataclasses.replace(made, attack=attack)


def toy_images(clients=8, train=10, test=4):
    """Clients with images of two classes, of which one has lighter rows above."""
    draw = np.random.default_rng(0)
    n = clients * (train + test)
    y = draw.integers(0, 2, n).astype(np.int32)
    x = draw.uniform(0, 0.5, size=(n, 6, 6, 1))
    x[:, :3] += 0.4 * y[:, None, None, None]
    return FederatedData(
        'toy images',
        x.astype(np.float32),
        y,
        tuple(map(str, range(clients))),
        np.full(clients, train),
        np.full(clients, test),
        2,
    )


@pytest.mark.parametrize(
    ('attack', 'false'),
    [
        pytest.param(SignFlip(scale=2.0), lambda own, honest: -2 * own, marks=slow),
        (IPM(), lambda own, honest: -0.5 * honest.mean(axis=0)),
    ],
    ids=['own', 'others'],
)
def test_rounds_average_what_hostile_clients_send(attack, false, cohorts):  # noqa: F811
    made = attacked(attack, clients_per_round=4, weighting='uniform')
    result, data = loop.train(made, data=make_data()), make_data()
    who = {row.tobytes(): data.client_of_row[i] for i, row in enumerate(data.x)}
    bad = hostile.clients(made, len(data))
    assert len(bad) == 3  # 0.4 of 8.
    weights, met = np.zeros(SIZE * CLASSES + CLASSES), []
    for cohort in cohorts:
        split = SIZE * CLASSES
        start = [weights[:split].reshape(SIZE, CLASSES), weights[split:]]
        own = np.stack(
            [flat(numpy_round(start, one, 0.1)) - weights for one in clients_of(cohort)]
        )
        clients = [who[one.examples['x'][0].tobytes()] for one in clients_of(cohort)]
        lies = np.isin(clients, bad)
        sent = [
            false(update, own[~lies]) if lying else update
            for update, lying in zip(own, lies, strict=True)
        ]
        met.append(lies.sum())
        weights = weights + np.mean(sent, axis=0)
    assert 0 < max(met) < 4
    np.testing.assert_allclose(flat(result.weights), weights, rtol=1e-4, atol=1e-6)


def test_flipped_labels_are_trained_on_and_never_judged_by(cohorts):  # noqa: F811
    made = attacked(LabelFlip(), rounds=1, clients_per_round=8)
    result, data = loop.train(made, data=make_data()), make_data()
    row_of = {row.tobytes(): i for i, row in enumerate(data.x)}
    bad, flipped = hostile.clients(made, len(data)), 0
    for cohort in cohorts:
        rows = np.array([row_of[x.tobytes()] for x in cohort.examples['x']])
        theirs = np.isin(data.client_of_row[rows], bad)
        true = data.y[rows]
        expected = np.where(theirs, CLASSES - 1 - true, true)
        np.testing.assert_array_equal(cohort.examples['y'], expected)
        flipped += np.sum(expected != true)
    assert flipped > 0
    tested = result.predictions['seen'].rows
    assert set(bad) <= set(data.client_of_row[tested])
    np.testing.assert_array_equal(result.setup.data.y[tested], data.y[tested])


@slow
@pytest.mark.parametrize('attack', WALK)
def test_without_attackers_nothing_is_another(attack):
    made = dataclasses.replace(make_config(rounds=2), model=ModelConfig('mlp'))
    plain = loop.train(made, data=toy_images())
    found = loop.train(
        dataclasses.replace(
            attacked(attack, attackers=0.0, rounds=2), model=made.model
        ),
        data=toy_images(),
    )
    for ours, theirs in zip(found.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    row = dict(found.rows[-1])
    row.pop('unseen/backdoor', None)
    timeless = [{k: v for k, v in r.items() if 'time/' not in k}
                for r in (row, plain.rows[-1])]  # fmt: skip
    assert timeless[0] == timeless[1]


@slow
def test_success_of_a_backdoor_is_counted_on_unseen_clients(tmp_path):
    attack = Backdoor(target=1, size=2, fraction=0.5)
    made = attacked(attack, rounds=6, client_learning_rate=1.0, evaluate_every=3)
    made = dataclasses.replace(made, model=ModelConfig('mlp', hidden_units=(8,)))
    data = toy_images()
    result = loop.train(made, tmp_path, data=data)
    unseen = np.isin(data.client_of_row, result.setup.unseen)
    images = data.x[unseen & (data.y == 0)].copy()
    images[:, 4:, 4:, 0] = np.array([[1, 0], [0, 1]])
    taken = np.argmax(np.asarray(result.network(images)), axis=1) == 1
    assert result.rows[-1]['unseen/backdoor'] == pytest.approx(taken.mean())
    assert taken.mean() > 0.5  # It works.
    told = [row['unseen/backdoor'] for row in result.rows]
    assert [value is None for value in told] == [False, True, True, False] + [
        *(True, True, False)
    ]


@slow
def test_a_backdoor_passes_through_a_frozen_backbone():
    data = synthetic_writers.generate(10, 20, seed=0, classes=10)
    attack = Backdoor(target=1, scale=2.0)
    made = attacked(attack, rounds=4, evaluate_every=1)
    made = dataclasses.replace(made, model=ModelConfig())
    result = loop.train(made, data=data)
    bad = hostile.clients(made, len(data))
    poisoned = attack.poisoned(data, bad, made.training.seed)
    rows = poisoned.x.rows
    assert len(rows) == sum(round(0.3 * data.num_train[c]) for c in bad) > 0
    backbone = backbones.load('embedded')
    expected = backbone(attack.stamped(data.x[rows])).numpy()
    np.testing.assert_allclose(
        result.setup.data.x[rows], expected, rtol=1e-4, atol=1e-5
    )
    others = np.setdiff1d(np.arange(len(data.x)), rows)[::7]
    expected = backbone(data.x[others]).numpy()
    np.testing.assert_allclose(
        result.setup.data.x[others], expected, rtol=1e-4, atol=1e-5
    )
    unseen = np.isin(data.client_of_row, result.setup.unseen) & (data.y != 1)
    stamped = backbone(attack.stamped(data.x[unseen]))
    logits = result.network(result.setup.transform(stamped))
    taken = np.mean(np.argmax(logits, axis=1) == 1)
    assert result.rows[-1]['unseen/backdoor'] == pytest.approx(taken)


@slow
def test_what_is_not_finite_is_dropped():
    made = attacked(
        GaussianNoise(deviation=3e38), clients_per_round=8, rounds=1, attackers=0.25
    )
    result = loop.train(made, data=make_data())
    row = result.rows[-1]
    assert (row['train/clients'], row['train/dropped_clients']) == (6, 2)
    assert np.isfinite(flat(result.weights)).all()


@slow
def test_what_is_remembered_of_clients_is_what_they_sent():
    # FoolsGold looks at the sums of all that each client sent.
    made = attacked(
        SignFlip(scale=2.0), clients_per_round=8, weighting='uniform', rounds=1
    )
    kept = {}
    for name, attack in (('honest', NoAttack()), ('attacked', made.attack)):
        one = dataclasses.replace(made, attack=attack, aggregation=FoolsGold())
        setup = loop.prepare(one, make_data(), None, mlp((SIZE,), CLASSES))
        stage = stages.Stage(one, setup, range(1, 2))
        with runtime.use_compiled(seed=0):
            state, _ = stage.next(stage.initialize(), 1)
        kept[name] = stage._states.take(state['kept'], range(8)).arrays.history
    lying = np.isin(setup.seen, hostile.clients(made, 10))
    assert lying.sum() == 3
    np.testing.assert_array_equal(kept['attacked'][~lying], kept['honest'][~lying])
    np.testing.assert_allclose(
        kept['attacked'][lying], -2 * kept['honest'][lying], rtol=1e-4, atol=1e-6
    )
    assert np.abs(kept['honest']).sum(axis=1).min() > 0


@slow
@pytest.mark.parametrize(
    'attack',
    [pytest.param(GaussianNoise(), marks=pytest.mark.walk), ALIE()],
    ids=['draws', 'sees'],
)
def test_a_killed_run_is_attacked_as_it_would_have_been(attack, tmp_path, monkeypatch):
    made = attacked(attack, checkpoint_every=1)
    whole = loop.train(made, data=make_data())
    seen = killing.at(monkeypatch, 3)
    with pytest.raises(killing.Killed):
        loop.train(made, tmp_path, data=make_data())
    resumed = loop.train(made, tmp_path, data=make_data())
    assert seen == [1, 2, 3, 3, 4]
    for ours, theirs in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@slow
@pytest.mark.parametrize(
    'attack',
    [pytest.param(GaussianNoise(), marks=pytest.mark.walk), MinMax()],
    ids=['draws', 'sees others'],
)
def test_both_runtimes_are_attacked_alike(attack):
    # SCAFFOLD's clients keep something too.
    made = dataclasses.replace(config_of('scaffold'), attack=attack)
    found, stock = (
        loop.train(
            dataclasses.replace(
                made, training=dataclasses.replace(made.training, runtime=name)
            ),
            data=make_data(),
        )
        for name in ('compiled', 'stock')
    )
    for ours, theirs in zip(found.weights, stock.weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@slow
def test_hostile_clients_lie_whenever_they_report():
    made = dataclasses.replace(
        make_config(rounds=1), timing=FedBuff(buffer=2), fleet=Drawn()
    )
    honest = loop.train(made, data=make_data())
    lying = attacked(SignFlip(scale=2.0), made)
    training = dataclasses.replace(lying.training, attackers=0.95)
    lying = dataclasses.replace(lying, training=training)
    assert len(hostile.clients(lying, 10)) == 8  # All that train.
    found = loop.train(lying, data=make_data())
    expected = -2 * flat(honest.weights)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(flat(found.weights), expected, rtol=1e-5, atol=1e-7)


@slow
@pytest.mark.parametrize('attack', WALK)
def test_every_attack_is_a_choice_of_flags(attack):
    name = attacks.KINDS.name_of(attack)
    made = flags_run(f'--attack={name}', '--attackers=0.3')
    assert (made.attack, made.training.attackers) == (attack, 0.3)
    row = loop.train(made, data=toy_images()).rows[-1]
    assert ('unseen/backdoor' in row) == (name == 'backdoor')
    assert row['train/clients'] == 4
    assert row['unseen/loss'] != honest_loss()


def flags_run(*flags):
    return from_command_line(
        *flags,
        *('--model=mlp', '--rounds=3', '--clients_per_round=4'),
        *('--server_optimizer=sgd', '--evaluate_every=3'),
    )


@functools.cache
def honest_loss():
    return loop.train(flags_run(), data=toy_images()).rows[-1]['unseen/loss']


def test_flags_without_an_attack_are_refused():
    with pytest.raises(UserError, match='--attackers is not for --attack=none'):
        from_command_line('--attackers=0.3').check()
    with pytest.raises(UserError, match='--ipm.epsilon is for --attack=ipm'):
        from_command_line('--attack=alie', '--ipm.epsilon=0.3')


@pytest.mark.parametrize('name', registry.NAMES)
def test_every_method_takes_each_attack_or_says_why_not(name):
    for attack in KINDS:
        made = attacked(attack, config_of(name))
        kind = attacks.KINDS.name_of(attack)
        if name in ('local', 'central'):
            words = 'nothing travels'
        elif kind == 'backdoor' and name in registry.BY_OWN_MODELS:
            words = 'judged on one model for all'
        elif kind == 'backdoor' and name in registry.OF_GANS:
            words = 'judged by predicted classes'
        elif kind != 'labelflip' and name in registry.BESIDE_THE_MEAN:
            words = 'sends more or something else'
        else:
            made.check()
            continue
        with pytest.raises(UserError, match=words):
            made.check()


@pytest.mark.parametrize(
    ('attack', 'changed', 'words'),
    [
        (ALIE(), {'privacy': Central(noise_multiplier=1.0)}, 'counts more than'),
        (SignFlip(), {'privacy': Central(noise_multiplier=1.0)}, None),
        (SignFlip(), {'privacy': Local(target_epsilon=4.0)}, 'once more before'),
        (LabelFlip(), {'privacy': Local(target_epsilon=4.0)}, None),
        (MinMax(), {'aggregation': Secure()}, 'know the updates that'),
        (SignFlip(), {'aggregation': Secure()}, None),
        (IPM(), {'timing': FedBuff(), 'fleet': Drawn()}, 'there are no rounds'),
        (SignFlip(), {'timing': FedBuff(), 'fleet': Drawn()}, None),
    ],
)
def test_promises_and_sums_that_an_attack_would_break_are_refused(
    attack, changed, words
):
    made = dataclasses.replace(
        attacked(attack, weighting='uniform', attackers=0.2), **changed
    )
    if words is None:
        return made.check()
    with pytest.raises(UserError, match=words):
        made.check()
    return None


def test_baselines_are_not_attacked():
    made = dataclasses.replace(config_of('ditto', baselines=True), attack=SignFlip())
    with pytest.raises(UserError, match='give --nobaselines'):
        made.check()


def test_vectors_have_no_triggers():
    with pytest.raises(UserError, match='stamps images, but toy has vectors'):
        loop.train(attacked(Backdoor()), data=make_data())


def test_public_clients_are_honest():
    made = attacked(SignFlip(), attackers=0.5)
    made = dataclasses.replace(made, aggregation=FLTrust(public_clients=4))
    seen, _ = split_clients(10, 0.2)
    trained, public = public_clients.divided(made, seen)
    bad = hostile.clients(made, 10)
    assert (len(public), len(bad)) == (4, 2)
    assert set(bad) <= set(trained)


def test_only_seen_clients_are_hostile():
    made = dataclasses.replace(
        attacked(SignFlip(), attackers=0.9), data=DataConfig(unseen_fraction=0.5)
    )
    bad = hostile.clients(made, 10)
    assert len(bad) == 4  # 0.9 of 5, 4.5, rounded to the even one.
    assert set(bad) <= set(split_clients(10, 0.5)[0])

"""Every method against a few lines of NumPy from its paper, and its neighbours."""

import collections
import dataclasses
import functools

import method_references as references
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import walks
from method_references import CLASSES, FEATURES, HIDDEN, RATE

from tff_transfer import models, randomness, runtime
from tff_transfer.algorithms import compose, registry
from tff_transfer.algorithms.computations import NOTHING_TOLD, Settings
from tff_transfer.algorithms.method import Context
from tff_transfer.algorithms.public_examples import PublicExamples
from tff_transfer.data.cohorts import Cohort
from tff_transfer.errors import UserError

slow = pytest.mark.slow
BATCH = 4
DRAW = np.random.default_rng(7)
# Five clients of different sizes, the last two without examples of some classes.
SIZES, POPULATION = (9, 4, 6, 5, 8), 5
X = [DRAW.normal(size=(n, FEATURES)).astype(np.float32) for n in SIZES]
Y = [DRAW.integers(0, CLASSES if i < 3 else 2, n) for i, n in enumerate(SIZES)]
ROUNDS = ([0, 1, 2], [2, 3], [4, 0, 3], [1, 4])
START = DRAW.normal(size=references.SIZE).astype(np.float32)


@functools.cache
def model():
    made = models.mlp((FEATURES,), CLASSES)
    kernel, bias = np.split(START, [FEATURES * CLASSES])
    initial = (kernel.reshape(FEATURES, CLASSES), bias)

    @tf.function(autograph=False)
    def predict(weights, x, training):
        return made.functional.predict_on_batch(weights, x, training)

    functional = models.functional_model(
        initial, predict, made.functional.input_spec['x']
    )
    return dataclasses.replace(made, functional=functional)


@functools.cache
def context(momentum=None, **changed):
    sgd = tff.learning.optimizers.build_sgdm
    return Context(
        model(), sgd(RATE, momentum), sgd(1.0), population=POPULATION, **changed
    )


# Those of test_fed_gan.py train other models.
NAMES = tuple(n for n in registry.NAMES if n not in registry.OF_GANS)
# Methods for networks with hidden layers, besides those of parts.
WITH_BODY = (*registry.BY_REPRESENTATION, 'fedbabu', 'fedrecon', 'feddf')


@functools.cache
def context_for(name, **changed):
    """Returns the context of a method: some are for a network with hidden layers."""
    made, parts = context(**changed), getattr(of(name), 'parts', ())
    if name in registry.BY_PUBLIC_EXAMPLES:
        made = dataclasses.replace(made, public=PUBLIC)
    if name not in WITH_BODY and not parts:
        return made
    hidden = models.mlp((FEATURES,), CLASSES, (HIDDEN,))
    return dataclasses.replace(made, model=hidden, parts=parts)


def cohort(clients):
    x, y = (np.concatenate([part[c] for c in clients]) for part in (X, Y))
    splits = np.cumsum([0, *(SIZES[c] for c in clients)])
    examples = collections.OrderedDict(x=x, y=y.astype(np.int32))
    return Cohort(examples, splits, BATCH)


# The server's own examples, whose labels say nothing.
PUBLIC = PublicExamples(
    collections.OrderedDict(
        x=DRAW.normal(size=(6, FEATURES)).astype(np.float32), y=np.zeros(6, np.int32)
    ),
    BATCH,
    epochs=1,
    seed=5,
)


def public_rounds(epochs):
    """Returns the batches of the server's examples in each round."""
    more = dataclasses.replace(PUBLIC, epochs=epochs)
    return [
        [
            (batch['x'].astype(np.float64), batch['y'])
            for batch in more.batches(tf.constant(t)).as_numpy_iterator()
        ]
        for t in range(1, len(ROUNDS) + 1)
    ]


def virtual_draws(features, epochs, rounds=ROUNDS):
    """Returns what the server of CCVR draws in each round with seed 0."""
    keys = randomness.generator(0, 'virtual features').integers(2**31, size=2)
    shape, rows = [CLASSES, features, FEATURES], np.arange(CLASSES * features)
    shuffle = tf.random.experimental.stateless_shuffle
    return [
        (
            tf.random.stateless_normal(shape, [keys[0], t], dtype=tf.float64).numpy(),
            np.concatenate(
                [shuffle(rows, [keys[1], t * epochs + e]) for e in range(epochs)]
            ),
        )
        for t in range(1, len(rounds) + 1)
    ]


def reference_rounds(rounds=ROUNDS):
    return [
        {
            c: [
                (X[c][i : i + BATCH].astype(np.float64), Y[c][i : i + BATCH])
                for i in range(0, SIZES[c], BATCH)
            ]
            for c in clients
        }
        for clients in rounds
    ]


# To trace a process takes most of a test's time, so that tests share them.
COMPOSED = {}


def composed(options, made):
    """Returns a context's process of a method, the same for the same context."""
    key = options, id(made)
    if key not in COMPOSED:
        # With the context, which must not go: another would get its id.
        COMPOSED[key] = compose.compose(options.build(made), made), made
    return COMPOSED[key][0]


def run(options, made=None, rounds=ROUNDS, use=runtime.use_compiled):
    """Returns the evaluated weights, the state and what clients keep, at the end."""
    return each_round(options, made, rounds, use)[-1]


def each_round(options, made=None, rounds=ROUNDS, use=runtime.use_compiled):
    """Returns what `run` does, after each round."""
    made = made or context()
    method = options.build(made)
    of_clients = composed(options, made)
    process, kept = of_clients.process, [of_clients.kept] * POPULATION
    found = []
    with use():
        state = process.initialize()
        for clients in rounds:
            if of_clients.kept is None:
                state = process.next(state, cohort(clients)).state
            else:
                mine = [kept[c] for c in clients]
                more = told(of_clients, clients)
                state, _, now = process.next(state, cohort(clients), mine, *more)
                kept = list(kept)
                for client, value in zip(clients, now, strict=True):
                    kept[client] = value
            found.append((flat(method.evaluated(state.server)), state, kept))
    return found


def told(of_clients, clients):
    """Returns what a process takes of each client besides, where it takes any."""
    if of_clients.settings is NOTHING_TOLD:
        return ()
    return ([Settings(number=np.int32(client)) for client in clients],)


def flat(weights):
    return np.concatenate([np.ravel(w) for w in weights])


def of(name, **options):
    return registry.options(name)(**options)


def uniform(**more):
    return context(weighting='uniform', **more)


W = START.astype(np.float64)
R = references
CASES = {
    'fedavg': (of('fedavg'), context(), lambda r: R.fed_avg(W, r)),
    'fedavg uniform': (
        of('fedavg'),
        uniform(),
        lambda r: R.fed_avg(W, r, uniform=True),
    ),
    'fedsgd': (of('fedsgd'), context(), lambda r: R.fed_sgd(W, r)),
    'fedprox': (of('fedprox', mu=0.7), context(), lambda r: R.fed_prox(W, r, 0.7)),
    'scaffold I': (
        of('scaffold', variates='I'),
        uniform(),
        lambda r: R.scaffold(W, r, POPULATION, 'I')[0],
    ),
    'scaffold II': (
        of('scaffold'),
        uniform(),
        lambda r: R.scaffold(W, r, POPULATION, 'II')[0],
    ),
    'scaffold by examples': (
        of('scaffold'),
        context(),
        lambda r: R.scaffold(W, r, POPULATION, 'II', uniform=False)[0],
    ),
    'mimelite': (of('mimelite'), context(0.9), lambda r: R.mime_lite(W, r, 0.9)),
    'mime': (of('mime'), context(0.9), lambda r: R.mime_lite(W, r, 0.9, lite=False)),
    'fednova': (of('fednova'), context(), lambda r: R.fed_nova(W, r)),
    'fednova momentum': (
        of('fednova'),
        context(0.8),
        lambda r: R.fed_nova(W, r, momentum=0.8),
    ),
    'fednova proximal': (
        of('fednova', mu=0.5),
        context(),
        lambda r: R.fed_nova(W, r, mu=0.5),
    ),
    'feddyn': (
        of('feddyn', alpha=0.3),
        uniform(),
        lambda r: R.fed_dyn(W, r, POPULATION, 0.3),
    ),
    'fedexp': (of('fedexp', epsilon=1e-3), uniform(), lambda r: R.fed_exp(W, r, 1e-3)),
    'qfedavg': (of('qfedavg', q=2.0), uniform(), lambda r: R.q_fed_avg(W, r, 2.0)),
    'qfedavg 1/2': (of('qfedavg', q=0.5), uniform(), lambda r: R.q_fed_avg(W, r, 0.5)),
    'fedsam': (of('fedsam', rho=0.2), context(), lambda r: R.fed_sam(W, r, 0.2)),
    'ridge': (of('ridge', penalty=0.5), context(), lambda r: R.ridge(r, 0.5)),
    'ridge unchosen': (of('ridge'), context(), lambda r: R.ridge(r, 1.0)),
    'prototype': (of('prototype'), context(), lambda r: R.prototype(r)),
    'fedlc': (
        of('fedlc', tau=0.5),
        context(),
        lambda r: R.calibrated(
            W, r, lambda counts: {'margin': 0.5 * np.maximum(counts, 1e-8) ** -0.25}
        ),
    ),
    'fedrs': (
        of('fedrs', alpha=0.5),
        context(),
        lambda r: R.calibrated(
            W, r, lambda counts: {'factor': np.where(counts > 0, 1, 0.5)}
        ),
    ),
    'fedntd': (
        of('fedntd', beta=5.0, tau=2.0),
        context(),
        lambda r: R.fed_ntd(W, r, 5.0, 2.0),
    ),
    'ccvr': (
        of('ccvr', features=30, epochs=2),
        context(),
        lambda r: R.ccvr(W, r, virtual_draws(30, 2)),
    ),
    'jointft': (
        of('jointft', validation_fraction=0.35, patience=2),
        context(epochs=20),
        lambda r: R.joint_ft(W, r, 20, 0.35, 2),
    ),
}


# One of each kind; the others take their time with the slow tests.
QUICK = ('fedavg', 'fedsgd', 'fedprox', 'scaffold II', 'mime', 'ridge', 'prototype')
# Of each of their methods another case is in test-slow.
VARIANTS = (
    *('fedavg uniform', 'scaffold I', 'scaffold by examples', 'fednova momentum'),
    *('fednova proximal', 'qfedavg 1/2', 'ridge unchosen'),
)


@pytest.mark.parametrize('case', walks.slow(CASES, QUICK, {*CASES} - {*VARIANTS}))
def test_four_rounds_are_those_of_the_paper(case):
    options, made, reference = CASES[case]
    found, _, _ = run(options, made)
    expected = reference(reference_rounds())
    assert np.abs(expected - W).max() > 0.1
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def test_every_method_has_its_case():
    others = {'fedavgm', *ADAPTIVE, 'central', 'moon', *registry.BY_OWN_MODELS}
    others |= {*registry.BY_PUBLIC_EXAMPLES, 'fedgen'}
    assert {case.split()[0] for case in CASES} | others == set(NAMES)


# What Reddi et al.'s algorithm 2 does, with TFF's correction of the first steps' bias.
ADAPTIVE = {
    'fedadagrad': lambda m, v, d, t: (m, v + d * d, d, np.sqrt(v + d * d + 1e-6)),
    'fedadam': lambda m, v, d, t: (
        m := 0.9 * m + 0.1 * d,
        v := 0.99 * v + 0.01 * d * d,
        m / (1 - 0.9 ** (t + 1)),
        (np.sqrt(v) + 1e-3) / np.sqrt(1 - 0.99 ** (t + 1)),
    ),
    'fedyogi': lambda m, v, d, t: (
        m := 0.9 * m + 0.1 * d,
        v := v - 0.01 * d * d * np.sign(v - d * d),
        m / (1 - 0.9 ** (t + 1)),
        (np.sqrt(v) + 1e-3) / np.sqrt(1 - 0.99 ** (t + 1)),
    ),
    'fedrmsprop': lambda m, v, d, t: (
        m,
        v := 0.9 * v + 0.1 * d * d,
        d,
        np.sqrt(v) + 1e-3,
    ),
}


@pytest.mark.parametrize(
    'name', [n if n == 'fedadam' else pytest.param(n, marks=slow) for n in ADAPTIVE]
)
def test_adaptive_servers(name):
    start = 1e-6 if name in ('fedadagrad', 'fedyogi') else 0.0
    memory = [np.zeros(R.SIZE), np.full(R.SIZE, start)]

    def step(w, delta, t):
        *memory[:], up, down = ADAPTIVE[name](*memory, delta, t)
        return w - 0.05 * up / down

    found, _, _ = run(of(name, learning_rate=0.05))
    expected = R.fed_avg(W, reference_rounds(), step=step)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_momentum_on_the_server():
    velocity = [0.0]

    def step(w, delta, t):
        velocity[0] = 0.9 * velocity[0] + delta
        return w - 0.5 * velocity[0]

    found, _, _ = run(of('fedavgm', learning_rate=0.5))
    expected = R.fed_avg(W, reference_rounds(), step=step)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_clients_alone_train_alone():
    found, _, kept = run(of('local'))
    np.testing.assert_array_equal(found, START)
    for client in range(POPULATION):
        own = W
        for clients in reference_rounds():
            if client in clients:
                own = R.sgd(own, clients[client])
        np.testing.assert_allclose(flat(kept[client].method), own, rtol=1e-5, atol=1e-6)


# A round's one client has all examples.
IN_ONE_PLACE = [[2], [0], [4]]


def test_all_examples_in_one_place_are_one_training():
    found, _, _ = run(of('central'), context(0.8), IN_ONE_PLACE)
    expected = R.central(W, reference_rounds(IN_ONE_PLACE), 0.8)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def test_moon_contrasts_with_the_server_and_the_round_before():
    made = context_for('moon')
    found, _, kept = run(of('moon', mu=3.0), made)
    start = flat(made.initial).astype(np.float64)
    expected = R.moon(start, reference_rounds(), 3.0, 0.5)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)
    # What the contrast changes is far more than the tolerance.
    without = R.moon(start, reference_rounds(), 0.0, 0.5)
    assert np.abs(expected - without).max() > 1e-2


@slow
def test_the_server_distils_what_clients_would_answer_together():
    made = context_for('feddf')
    options = of('feddf', epochs=3, learning_rate=0.02)
    found, _, _ = run(options, made)
    start = flat(made.initial).astype(np.float64)
    expected = R.fed_df(start, reference_rounds(), public_rounds(3), 0.02)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # What is distilled is far more than the tolerance.
    without = R.fed_df(start, reference_rounds(), public_rounds(3), 0.0)
    assert np.abs(expected - without).max() > 1e-2
    # The server computes the clients' answers: no bytes are counted of them.
    plain = composed(of('fedavg'), made)
    sent = composed(options, made)
    assert (sent.bytes_down, sent.bytes_up) == (plain.bytes_down, plain.bytes_up)


@slow
def test_a_calibrated_model_is_beside_the_averaged_one():
    _, state, _ = run(of('ccvr', features=30, epochs=2))
    weights = flat(state.server.weights)
    averaged, _, _ = run(of('fedavg'))
    np.testing.assert_allclose(weights, averaged, rtol=1e-6)
    before, _, _ = run(of('fedavg'), rounds=ROUNDS[:-1])
    unchanged, _, _ = run(of('ccvr', epochs=0))
    np.testing.assert_allclose(unchanged, before, rtol=1e-6)


@slow
def test_a_class_that_nobody_has_keeps_its_part_of_the_last_layer():
    [(found, _, _)] = each_round(of('ccvr', features=30, epochs=2), rounds=[[4]])
    has = np.isin(range(CLASSES), Y[4])
    assert has.sum() == 2
    moved = np.abs(found - START).reshape(FEATURES + 1, CLASSES).max(0)
    assert (moved[has] > 1e-2).all() and not moved[~has].any()


def test_moon_without_a_trained_representation_is_refused():
    with pytest.raises(UserError, match='none of them is trained; use a head with'):
        of('moon').build(context())


def test_variates_of_scaffold_move_where_clients_took_part():
    _, state, kept = run(of('scaffold'), uniform(), ROUNDS[:2])
    rounds = reference_rounds()[:2]
    _, server, own = R.scaffold(W, rounds, POPULATION, 'II')
    np.testing.assert_allclose(flat(state.server.variate), server, rtol=1e-4, atol=1e-6)
    assert sorted(own) == [0, 1, 2, 3]
    for client, variate in own.items():
        found = flat(kept[client].method)
        np.testing.assert_allclose(found, variate, rtol=1e-4, atol=1e-5)
    assert not flat(kept[4].method).any()


NEIGHBOURS = {
    'fedprox': (of('fedprox', mu=0.0), {}),
    'fednova of one client': (of('fednova'), {'rounds': [[2], [4]]}),
    'qfedavg': (of('qfedavg', q=0.0), {}),
    'fedsam': (of('fedsam', rho=0.0), {}),
    'fedlc': (of('fedlc', tau=0.0), {}),
    'fedrs': (of('fedrs', alpha=1.0), {}),
    'fedntd': (of('fedntd', beta=0.0), {}),
    'feddf': (of('feddf', learning_rate=0.0), {}),
    'fedgen': (of('fedgen', weight=0.0), {}),
    'jointft of one pass': (of('jointft', validation_fraction=0.0), {}),
    'scaffold in its first round': (of('scaffold'), {'rounds': [[0, 1, 2]]}),
    'moon': (of('moon', mu=0.0), {}),
    'moon in its first round': (of('moon'), {'rounds': [[0, 1, 2]]}),
    'mimelite without state': (of('mimelite'), {}),
    'fedavgm': (of('fedavgm', momentum=0.0), {}),
    'central without state': (of('central'), {'rounds': IN_ONE_PLACE}),
    'fedexp of one client': (
        of('fedexp', epsilon=0.0, average_last_two=False), {'rounds': [[2], [4]]}
    ),
}  # fmt: skip


# Each comes to it in a way of its own.
WAYS = (
    *('fednova of one client', 'feddf', 'fedgen', 'jointft of one pass'),
    *('scaffold in its first round', 'moon in its first round'),
)


@pytest.mark.parametrize('case', walks.slow(NEIGHBOURS, ['fedprox'], WAYS))
def test_reduces_to_federated_averaging(case):
    options, more = NEIGHBOURS[case]
    made = context_for(case.split()[0], weighting='uniform')
    found, _, _ = run(options, made, **more)
    expected, _, _ = run(of('fedavg'), made, **more)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def tff_process(name, made):
    learning, functional = tff.learning.algorithms, made.model.functional
    client, server = made.client_optimizer, made.server_optimizer
    if name == 'fedsgd':
        return learning.build_fed_sgd(functional, server)
    if name == 'fedprox':
        return learning.build_weighted_fed_prox(functional, 0.7, client, server)
    if name == 'mimelite':
        return learning.build_weighted_mime_lite(functional, client, server)
    return learning.build_weighted_fed_avg(functional, client, server)


@pytest.mark.parametrize(
    'name',
    [
        'fedavg',
        *(pytest.param(n, marks=slow) for n in ('fedprox', 'fedsgd', 'mimelite')),
    ],
)
def test_equals_the_process_of_tff(name):
    made = context(0.9)
    theirs = tff_process(name, made)
    with runtime.use_compiled():
        state = theirs.initialize()
        for clients in ROUNDS:
            output = theirs.next(state, cohort(clients))
            state = output.state
        expected = flat(theirs.get_model_weights(state).trainable)
    # TFF 0.87.0 has the proximal term with the wrong sign: it drives clients away.
    options = {'mu': -0.7} if name == 'fedprox' else {}
    found, _, _ = run(of(name, **options), made)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def broken(clients, client):
    """Returns a cohort in which one client's inputs are not finite."""
    made = cohort(clients)
    first = made.row_splits[clients.index(client)]
    x = made.examples['x'].copy()
    x[first] = np.nan
    examples = collections.OrderedDict(made.examples, x=x)
    return dataclasses.replace(made, examples=examples)


def with_empty(clients, empty):
    """Returns a cohort in which one client more has no examples."""
    made = cohort(clients)
    splits = np.insert(made.row_splits, empty, made.row_splits[empty])
    return dataclasses.replace(made, row_splits=splits)


def one_round(of_clients, batches, clients):
    process, kept = of_clients.process, of_clients.kept
    with runtime.use_compiled():
        state = process.initialize()
        if kept is None:
            output = process.next(state, batches)
            return output.state, output.metrics, None
        more = told(of_clients, clients)
        return process.next(state, batches, [kept] * len(clients), *more)


def assert_close(found, expected):
    for ours, theirs in zip(
        tf.nest.flatten(found), tf.nest.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


# Of different kinds; the others are slow tests.
KINDS = ('scaffold', 'mime')


@pytest.mark.parametrize('name', walks.slow(NAMES, KINDS))
def test_clients_without_a_finite_update_or_examples_count_for_nothing(name):
    of_clients = composed(of(name), context_for(name))
    expected, metrics, kept = one_round(of_clients, cohort([0, 2]), [0, 2])
    assert metrics['dropped'] == 0
    for batches, dropped in ((broken([0, 1, 2], 1), 1), (with_empty([0, 2], 1), 0)):
        found, metrics, now = one_round(of_clients, batches, [0, 1, 2])
        assert metrics['dropped'] == dropped
        assert_close(found, expected)
        if kept is not None:
            assert_close(now, [kept[0], of_clients.kept, kept[1]])
    nothing = dataclasses.replace(cohort([0]), row_splits=np.array([0, 0, 0]))
    after, _, _ = one_round(of_clients, nothing, [0, 2])
    with runtime.use_compiled():
        before = of_clients.process.initialize()
    assert after.round == 1
    assert_close(after.server, before.server)


@pytest.mark.parametrize(
    'use',
    [runtime.use_compiled, pytest.param(runtime.use_stock, marks=pytest.mark.slow)],
)
def test_what_clients_keep_may_be_stacked(use):
    of_clients = composed(of('scaffold'), context())
    kept = [
        tf.nest.map_structure(lambda array, n=number: array + n, of_clients.kept)
        for number in range(3)
    ]
    stacked = runtime.StackedClients(
        tf.nest.map_structure(lambda *leaves: np.stack(leaves), *kept)
    )
    with use():
        state = of_clients.process.initialize()
        outputs = [
            of_clients.process.next(state, cohort([0, 1, 2]), values)
            for values in (kept, stacked)
        ]
    listed, found = ([output[0], list(output[2])] for output in outputs)
    for ours, theirs in zip(
        tf.nest.flatten(found), tf.nest.flatten(listed), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize('name', walks.over(NAMES))
def test_equal_on_both_runtimes(name):
    rounds = IN_ONE_PLACE if name in registry.IN_ONE_PLACE else ROUNDS
    made, options = context_for(name), of(name)
    if name == 'pfedme':  # Its lambda of 15 is for lower rates than this.
        options = of(name, lam=2.0)
    found, _, _ = run(options, made, rounds)
    expected, _, _ = run(options, made, rounds, use=runtime.use_stock)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

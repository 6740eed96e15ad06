"""Draws as functions of seed, round, client, operation and step."""

import collections
import itertools
import threading

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from scipy import stats

from tff_transfer import runtime
from tff_transfer.data.cohorts import Cohort
from tff_transfer.errors import UserError

LENGTH = 2000
CLIENTS = 5
ROWS = tff.SequenceType(tff.TensorType(np.float32, [None, 1]))


def cohort(sizes, batch_size=1):
    rows = np.zeros([sum(sizes), 1], np.float32)
    return Cohort({'x': rows}, np.append(0, np.cumsum(sizes)), batch_size)


def normal():
    return tf.random.normal([LENGTH])


@tff.tensorflow.computation(ROWS)
def drawn_by_client(rows):
    """Draws at the top, in a call, in a branch, in a loop and in steps."""
    first = normal()
    again = tf.function(normal, autograph=False)
    branch = tf.cond(tf.reduce_sum(rows.reduce(0.0, lambda s, b: s)) < 1, normal, again)
    _, looped = tf.while_loop(
        lambda i, _: i + 0 * tf.cast(tf.random.normal([]), tf.int32) < 3,
        lambda i, kept: (i + 1, tf.concat([kept[1:], [normal()]], 0)),
        (0, tf.zeros([3, LENGTH])),
    )
    steps = rows.reduce(
        tf.zeros([3, LENGTH]), lambda s, b: tf.concat([s[1:], [again()]], 0)
    )
    return tf.concat([[first, again(), again(), branch], looped, steps], 0)


@tff.tensorflow.computation
def drawn_by_server():
    return tf.stack([normal(), normal()])


@tff.federated_computation(tff.FederatedType(ROWS, tff.CLIENTS))
def drawn(rows):
    each = tff.federated_map(drawn_by_client, rows)
    return each, tff.federated_eval(drawn_by_server, tff.SERVER)


def vectors(seed=1, round_number=3, sizes=(3,) * CLIENTS, **settings):
    with runtime.use_compiled(seed=seed, **settings), runtime.in_round(round_number):
        each, server = drawn(cohort(sizes))
    return np.concatenate([*each, server])


def test_all_draws_are_independent():
    rounds = [vectors(), vectors(round_number=4), vectors(seed=2)]
    every = np.concatenate(rounds)
    assert len(every) == 3 * (10 * CLIENTS + 2)
    correlations = np.corrcoef(every)[np.triu_indices(len(every), 1)]
    # Of independent vectors they are normal with this deviation.
    scaled = correlations * np.sqrt(LENGTH)
    assert np.abs(scaled).max() < 6
    assert stats.kstest(scaled, 'norm').pvalue > 1e-3
    assert stats.kstest(every.ravel(), 'norm').pvalue > 1e-3


@pytest.mark.parametrize('settings', [{'threads': 1}, {'threads': 3}, {'debug': True}])
def test_draws_are_the_same_however_clients_run(settings):
    np.testing.assert_array_equal(vectors(**settings), vectors())


def test_a_client_draws_by_its_place_alone():
    few = vectors(sizes=(1, 2))
    many = vectors()
    # Not the steps: the second client has one fewer.
    np.testing.assert_array_equal(few[10:17], many[10:17])
    # Its second step is the last of two, and the second of three.
    np.testing.assert_array_equal(few[18:20], many[17:19])
    np.testing.assert_array_equal(few[-2:], many[-2:])


def test_rounds_are_counted_where_none_is_named():
    def three():
        with runtime.use_compiled(seed=5) as context:
            results = [drawn(cohort([2]))[1] for _ in range(3)]
            traces = context.program(drawn).traces
        return np.array(results), traces

    first, traces = three()
    second, same = three()
    np.testing.assert_array_equal(first, second)
    assert traces == same
    assert len(np.unique(first)) == first.size
    with runtime.use_compiled(seed=6):
        assert not np.isin(drawn(cohort([2]))[1], first).any()


def test_a_round_holds_in_its_thread_alone():
    results = {}
    with runtime.use_compiled(seed=1):

        def run(number):
            with runtime.use_compiled(seed=1), runtime.in_round(number):
                barrier.wait(timeout=60)
                results[number] = drawn(cohort([1]))[1]

        barrier = threading.Barrier(2)
        threads = [threading.Thread(target=run, args=[n]) for n in (7, 8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, found in results.items():
            with runtime.in_round(number):
                np.testing.assert_array_equal(drawn(cohort([1]))[1], found)
    assert not np.array_equal(results[7], results[8])


def test_computations_draw_differently():
    @tff.tensorflow.computation
    def three():
        return tf.stack([normal(), normal(), normal()])

    @tff.tensorflow.computation
    def negative():
        return -tf.stack([normal(), normal()])

    with runtime.use_compiled(seed=1), runtime.in_round(1):
        results = [drawn_by_server(), three(), negative()]
        again = drawn_by_server()
    np.testing.assert_array_equal(results[0], again)
    found = np.abs(np.concatenate([np.ravel(r) for r in results]))
    # Of 14,000 floats some are equal by chance.
    assert len(np.unique(found)) > 0.99 * found.size


def test_a_seed_changes_nothing_where_nothing_draws():
    @tff.tensorflow.computation(ROWS)
    def total(rows):
        return rows.reduce(0.0, lambda s, b: s + tf.reduce_sum(tf.exp(b)))

    @tff.federated_computation(tff.FederatedType(ROWS, tff.CLIENTS))
    def totals(rows):
        each = tff.federated_map(total, rows)
        return each, tff.federated_sum(each)

    sizes, results, ops = [3, 0, 4], [], []
    for seed in (None, 1):
        with runtime.use_compiled(seed=seed) as context:
            results.append(totals(cohort(sizes)))
            compiled = context.program(totals)._phases.traced.compiled
        ops.append(
            {
                kind: collections.Counter(
                    op.type
                    for op in function.graph.get_operations()
                    if op.type not in ('Placeholder', 'Const')
                )
                for (kind, _), function in compiled.items()
            }
        )
    assert results[0] == results[1] == ([3.0, 0.0, 4.0], 7.0)
    assert ops[0] == ops[1]


def test_without_a_seed_nothing_is_repeated():
    with runtime.use_compiled(), runtime.in_round(1):
        one, two = drawn_by_server(), drawn_by_server()
    assert not np.array_equal(one, two)


def samples(draw, rounds=1):
    comp = tff.tensorflow.computation(draw)
    with runtime.use_compiled(seed=11):
        return np.concatenate([np.atleast_1d(comp()) for _ in range(rounds)])


@pytest.mark.parametrize(
    'draw, distribution',
    [
        (lambda: tf.random.normal([20000], 2.0, 3.0), stats.norm(2, 3)),
        (lambda: tf.random.uniform([20000], -1.0, 4.0), stats.uniform(-1, 5)),
        (lambda: tf.random.truncated_normal([20000]), stats.truncnorm(-2, 2)),
        (lambda: tf.random.gamma([20000], 2.5, 2.0), stats.gamma(2.5, scale=0.5)),
    ],
)
def test_continuous_distributions_are_kept(draw, distribution):
    found = samples(draw)
    assert stats.kstest(found, distribution.cdf).pvalue > 1e-3
    assert len(np.unique(found)) > 0.98 * len(found)


@pytest.mark.parametrize(
    'draw, probabilities',
    [
        (lambda: tf.random.uniform([20000], 0, 5, tf.int32), [0.2] * 5),
        (
            lambda: tf.random.categorical(tf.math.log([[0.1, 0.3, 0.6]]), 20000)[0],
            [0.1, 0.3, 0.6],
        ),
        (
            lambda: tf.random.poisson([20000], 1.5, tf.int32),
            stats.poisson(1.5).pmf(range(12)),
        ),
    ],
)
def test_discrete_distributions_are_kept(draw, probabilities):
    found = np.bincount(samples(draw), minlength=len(probabilities))
    expected = np.asarray(probabilities) / np.sum(probabilities) * found.sum()
    # Rare ones together.
    enough = expected >= 5
    found = [*found[enough], found[~enough].sum()] if not enough.all() else found
    rest = expected[~enough].sum()
    expected = [*expected[enough], rest] if not enough.all() else expected
    assert stats.chisquare(found, expected).pvalue > 1e-3


def test_a_parameter_for_each_column_is_kept():
    gamma = samples(lambda: tf.random.gamma([4000, 2], [1.0, 9.0]))
    poisson = samples(lambda: tf.random.poisson([4000, 2], [1.0, 9.0]))
    assert gamma.shape == (4000, 2, 2) and poisson.shape == (4000, 2, 2)
    for found in (gamma, poisson):
        np.testing.assert_allclose(found.mean((0, 1)), [1, 9], rtol=0.06)
    assert stats.kstest(gamma[:, 0, 1], stats.gamma(9).cdf).pvalue > 1e-3


def test_shuffles_give_all_orders():
    def shuffles():
        return tf.map_fn(lambda _: tf.random.shuffle(tf.range(3)), tf.range(3000))

    orders = collections.Counter(map(tuple, samples(shuffles).tolist()))
    assert set(orders) == set(itertools.permutations(range(3)))
    assert stats.chisquare(list(orders.values())).pvalue > 1e-3


def test_other_draws():
    def generator():
        made = tf.random.Generator.from_non_deterministic_state()
        return made.normal([3])

    def time():
        return tf.timestamp()

    times = samples(time, rounds=500)
    assert (times > 0).all() and len(np.unique(np.int64(times * 1e6))) == 500
    assert stats.kstest(times, stats.uniform(0, 2.0**33).cdf).pvalue > 1e-3
    for draw in (generator, time, lambda: tf.random.normal([2], seed=3)):
        np.testing.assert_array_equal(samples(draw, 3), samples(draw, 3))
        assert len(np.unique(samples(draw, 3))) == samples(draw, 3).size


def test_draws_between_intrinsics_on_sequences():
    @tff.tensorflow.computation(tff.TensorType(np.float32, [None, 1]))
    def noise(_):
        return tf.random.normal([])

    @tff.tensorflow.computation(np.float32, np.float32)
    def add(a, b):
        return a + b + tf.random.normal([])

    @tff.federated_computation(tff.FederatedType(ROWS, tff.CLIENTS))
    def comp(rows):
        @tff.federated_computation(ROWS)
        def each(mine):
            mapped = tff.sequence_map(noise, mine)
            return tff.sequence_sum(mapped), tff.sequence_reduce(mapped, 0.0, add)

        return tff.federated_map(each, rows)

    with runtime.use_compiled(seed=1), runtime.in_round(1):
        a, b = comp(cohort([3, 1])), comp(cohort([3, 1, 2]))
    assert a == b[:2]
    values = np.ravel(b)
    assert len(np.unique(values)) == values.size


@pytest.mark.parametrize(
    'pipeline, what',
    [
        (
            lambda rows: rows.map(lambda x: x + tf.random.normal([])),
            'a function of MapDataset.*draws',
        ),
        (lambda rows: rows.shuffle(3), 'ShuffleDataset.* draws without a seed'),
    ],
)
def test_draws_in_pipelines_are_refused(pipeline, what):
    @tff.tensorflow.computation(ROWS)
    def comp(rows):
        return pipeline(rows).reduce(0.0, lambda s, b: s + tf.reduce_sum(b))

    rows = tf.data.Dataset.from_tensor_slices(np.ones([2, 1, 1], np.float32))
    with runtime.use_compiled(seed=1), pytest.raises(UserError, match=what) as error:
        comp(rows)
    assert '\n' not in str(error.value) and 'leave out seed' in str(error.value)
    with runtime.use_compiled():
        comp(rows)


def test_what_is_no_seed_or_round_is_refused():
    with pytest.raises(UserError, match='seed is -1'):
        runtime.use_compiled(seed=-1)
    with pytest.raises(UserError, match='the round is 1.5'), runtime.in_round(1.5):
        pass


VALUES = [np.sin(np.arange(300) * (i + 1)).astype(np.float32) for i in range(20)]
TYPE = tff.TensorType(np.float32, [300])
WEIGHT = tff.TensorType(np.float32)
AGGREGATORS = {
    'noise': lambda: tff.learning.dp_aggregator(0.5, 20).create(TYPE),
    'quantisation': lambda: tff.aggregators.MeanFactory(
        tff.aggregators.EncodedSumFactory.quantize_above_threshold(3, 0)
    ).create(TYPE, WEIGHT),
    'rotation': lambda: tff.aggregators.HadamardTransformFactory(
        tff.aggregators.EncodedSumFactory.quantize_above_threshold(3, 0)
    ).create(TYPE),
    'sampling': lambda: tff.aggregators.UnweightedReservoirSamplingFactory(3).create(
        TYPE
    ),
    'distributed noise': lambda: tff.learning.ddp_secure_aggregator(0.5, 20).create(
        TYPE
    ),
}


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name == 'distributed noise'))
        for name in AGGREGATORS
    ],
)
def test_aggregators_repeat_and_resume(name):
    process = AGGREGATORS[name]()
    weighted = len(process.next.type_signature.parameter) == 3
    weights = [[1.0] * len(VALUES)] if weighted else []

    def rounds(numbers, seed=1, state=None, **settings):
        with runtime.use_compiled(seed=seed, **settings):
            if state is None:
                with runtime.in_round(0):
                    state = process.initialize()
            results = []
            for number in numbers:
                with runtime.in_round(number):
                    output = process.next(state, VALUES, *weights)
                state = output.state
                results.append(output.result)
        return np.array(results), state

    whole, _ = rounds([1, 2, 3])
    _, middle = rounds([1])
    resumed, _ = rounds([2, 3], state=middle, threads=3)
    np.testing.assert_array_equal(resumed, whole[1:])
    other, _ = rounds([1], seed=2)
    assert not np.array_equal(other[0], whole[0])
    later, _ = rounds([2], state=middle)
    now, _ = rounds([5], state=middle)
    np.testing.assert_array_equal(later[0], whole[1])
    if name != 'rotation':
        # Whose draws hang on its state alone.
        assert not np.array_equal(now[0], later[0])


def dropout_process():
    def make():
        network = tf.keras.Sequential(
            [
                tf.keras.layers.InputLayer((4,)),
                tf.keras.layers.Dropout(0.5),
                tf.keras.layers.Dense(3, kernel_initializer='zeros'),
            ]
        )
        return tff.learning.models.from_keras_model(
            network,
            loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            input_spec=collections.OrderedDict(
                x=tf.TensorSpec([None, 4]), y=tf.TensorSpec([None], tf.int32)
            ),
        )

    sgd = tff.learning.optimizers.build_sgdm
    return tff.learning.algorithms.build_weighted_fed_avg(make, sgd(0.1), sgd(1.0))


@pytest.mark.slow
def test_dropout_repeats_and_resumes():
    process = dropout_process()
    draw = np.random.default_rng(1)
    examples = collections.OrderedDict(
        x=draw.normal(size=(60, 4)).astype(np.float32),
        y=draw.integers(0, 3, 60).astype(np.int32),
    )
    data = Cohort(examples, np.arange(0, 61, 6), 2)

    def rounds(numbers, state=None, seed=1, **settings):
        with runtime.use_compiled(seed=seed, **settings):
            state = process.initialize() if state is None else state
            for number in numbers:
                with runtime.in_round(number):
                    state = process.next(state, data).state
            return state, process.get_model_weights(state).trainable[0]

    middle, _ = rounds([1, 2])
    _, whole = rounds([1, 2, 3], threads=1)
    _, resumed = rounds([3], middle, threads=3)
    np.testing.assert_array_equal(whole, resumed)
    _, later = rounds([4], middle)
    _, other = rounds([1, 2, 3], seed=2)
    assert not np.array_equal(later, whole) and not np.array_equal(other, whole)

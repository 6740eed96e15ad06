"""Clients in lockstep give what they give one after another."""

import collections
import dataclasses
import functools
import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import test_compiled_processes as processes
import walks

from tff_transfer import runtime
from tff_transfer.data.cohorts import Cohort
from tff_transfer.errors import UserError
from tff_transfer.runtime.blocks import Settings
from tff_transfer.runtime.layouts import ClientSequences
from tff_transfer.runtime.lockstep import choice

TOGETHER = functools.partial(runtime.use_compiled, lockstep=True)
ALONE = functools.partial(runtime.use_compiled, lockstep=False)
# Of forty clients one has no example, and one a single one.
SIZES = (*np.random.default_rng(2).integers(1, 30, 38).tolist(), 0, 1)


def many(round_number):
    return processes.cohort(round_number, SIZES)


def data_of(name):
    """Returns a case's data in rounds of many clients."""
    data = processes.CASES[name][2]
    if data is processes.cohort:
        return many
    if data is processes.datasets:
        return lambda round_number: list(many(round_number))
    return data


@pytest.mark.slow
@pytest.mark.parametrize(
    'name',
    walks.over(sorted(processes.CASES), processes.OF_EACH_KIND),
)
def test_process_gives_the_same_in_lockstep(name, monkeypatch):
    # Adam's first step divides by the size of what it is given: of a mean near 0 it
    # makes 4e-6 of what are differences of 2e-8 with SGD, in one weight of these.
    sgd = tff.learning.optimizers.build_sgdm(1.0)
    monkeypatch.setattr(processes, 'SERVER', sgd)
    build, model, data = processes.CASES[name]
    process, data = build(model()), data_of(name)
    with ALONE(threads=2):
        expected = processes.run(process, data)
    with TOGETHER(threads=2) as context:
        found = processes.run(process, data)
        again = processes.run(process, data)
        assert runtime.obstacles(process.next) == ['']
        traces = context.program(process.next).traces
        if data is many:
            process.next(found[-1].state, processes.cohort(9, (3, 0, 17, 8)))
        assert context.program(process.next).traces == traces
    processes.assert_same(found, again, 0)
    for a, b in zip(expected, found, strict=True):
        if processes.weights_of(a) is not None:
            processes.assert_same_weights(
                processes.weights_of(a), processes.weights_of(b)
            )
        processes.assert_same(a.metrics, b.metrics, 1e-6)
        processes.assert_same(a, b, 1e-5)


def linear():
    """Returns federated averaging of a linear model, and a cohort of three clients."""
    model = tff.learning.models.functional_model_from_keras(
        tf.keras.Sequential(
            [
                tf.keras.layers.Input((2,)),
                tf.keras.layers.Dense(1, use_bias=False, kernel_initializer='ones'),
            ]
        ),
        tf.keras.losses.MeanSquaredError(),
        (tf.TensorSpec([None, 2]), tf.TensorSpec([None, 1])),
    )
    sgd = tff.learning.optimizers.build_sgdm
    return tff.learning.algorithms.build_weighted_fed_avg(model, sgd(0.1), sgd(1.0))


def of_dataset(function):
    """Returns a computation of what clients do with their dataset of numbers."""
    sequence = tff.SequenceType(tff.TensorType(np.float32, [None]))
    function = tf.function(function)

    @tff.federated_computation(tff.FederatedType(sequence, tff.CLIENTS))
    def sums(data):
        return tff.federated_sum(
            tff.federated_map(tff.tensorflow.computation(function, sequence), data)
        )

    return sums


def squares(dataset):
    total, steps = tf.constant(0.0), tf.constant(0)
    for batch in iter(dataset):
        total += tf.reduce_sum(batch * batch) / tf.cast(steps + 1, tf.float32)
        steps += 1
    for batch in iter(dataset):
        total += tf.cast(steps, tf.float32) * batch[0]
    return total


def until_negative(dataset):
    total = tf.constant(0.0)
    for batch in iter(dataset):
        if batch[0] < 0.0:
            break
        total += batch[0]
    return total


def of_the_first(dataset):
    total = tf.constant(0.0)
    for batch in iter(dataset):
        tf.autograph.experimental.set_loop_options(maximum_iterations=2)
        total += batch[0]
    return total


def of_two(dataset):
    total, other = tf.constant(0.0), iter(dataset)
    for batch in iter(dataset):
        total += batch[0] * next(other)[0]
    return total


def test_loops_over_iterators_are_passes():
    sizes = (5, 0, 9, 1, 4, 12)
    draw = np.random.default_rng(4)
    values = [draw.normal(size=size).astype(np.float32) for size in sizes]
    batches = [[v[i : i + 4] for i in range(0, len(v), 4)] for v in values]
    expected = sum(
        sum(np.sum(b * b) / (i + 1) for i, b in enumerate(of_client))
        + len(of_client) * sum(b[0] for b in of_client)
        for of_client in batches
    )
    cohort = Cohort(np.concatenate(values), np.append(0, np.cumsum(sizes)), 4)
    sums = of_dataset(squares)
    with TOGETHER():
        found = sums(cohort)
        assert runtime.obstacles(sums) == ['']
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def of_another(dataset):
    total = dataset.reduce(0.0, lambda s, b: s + tf.reduce_sum(b))
    for number in iter(tf.data.Dataset.range(3)):
        total += tf.cast(number, tf.float32)
    return total


@pytest.mark.parametrize(
    ('function', 'why'),
    [
        (of_another, 'RangeDataset .*: it has no form for many clients at a time'),
        (until_negative, 'While .*: a loop over a dataset ends for another reason'),
        (of_the_first, 'While .*: a loop over a dataset ends for another reason'),
        (of_two, 'While .*: a loop reads several datasets'),
        (
            lambda dataset: dataset.take(1).reduce(0.0, lambda s, b: s + b[0]),
            'TakeDataset .*: it has no form for many clients at a time',
        ),
    ],
)
def test_other_readings_are_named(function, why):
    with TOGETHER():
        (found,) = runtime.obstacles(of_dataset(function))
    assert re.match(why, found), found


def convolutional():
    """Returns federated averaging of a network that goes over images, all smooth."""
    layers = tf.keras.layers
    model = tff.learning.models.functional_model_from_keras(
        tf.keras.Sequential(
            [
                layers.Input((8, 7, 1)),
                layers.Conv2D(4, 3, 2, 'same', activation='tanh'),
                layers.DepthwiseConv2D(3, padding='same', activation='tanh'),
                layers.AveragePooling2D(),
                layers.Conv2D(3, 1, activation='tanh'),
                layers.Flatten(),
                layers.Dense(2),
            ]
        ),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        (tf.TensorSpec([None, 8, 7, 1]), tf.TensorSpec([None], tf.int32)),
    )
    sgd = tff.learning.optimizers.build_sgdm
    return tff.learning.algorithms.build_weighted_fed_avg(model, sgd(0.1), sgd(1.0))


def of_images(sizes):
    draw, count = np.random.default_rng(3), sum(sizes)
    x = draw.normal(size=(count, 8, 7, 1)).astype(np.float32)
    y = draw.integers(0, 2, count).astype(np.int32)
    return Cohort((x, y), np.append(0, np.cumsum(sizes)), 4)


def test_networks_with_kernels_of_each_client():
    process, data, found = convolutional(), of_images((9, 4, 0, 6, 13)), []
    for use in (ALONE, TOGETHER):
        with use():
            state = process.initialize()
            for _ in range(3):
                state = process.next(state, data).state
        found.append(state.global_model_weights.trainable)
    with TOGETHER():
        assert runtime.obstacles(process.next) == ['']
    processes.assert_same_weights(*found)
    # By default they go alone on processors, whatever their size.
    with runtime.use_compiled():
        (why,) = runtime.obstacles(process.next)
    assert 'kernels of each client take longer together on processors' in why


def of_linear(sizes):
    draw = np.random.default_rng(3)
    x, y = (draw.normal(size=(sum(sizes), n)).astype(np.float32) for n in (2, 1))
    splits = np.append(0, np.cumsum(sizes))
    return Cohort(collections.OrderedDict(x=x, y=y), splits, 4)


def test_steps_are_those_of_numpy():
    # Of many clients, so that there are two blocks and several groups' steps.
    sizes = [5, 2, 9, 0, 4, *range(60)]
    process, data = linear(), of_linear(sizes)
    found = []
    for threads in (1, 2):
        with TOGETHER(threads=threads) as context:
            state = process.next(process.initialize(), data).state
            assert runtime.obstacles(process.next) == ['']
            traces = context.program(process.next).traces
            again = process.next(process.initialize(), data).state
            process.next(state, of_linear(range(70)))
            assert context.program(process.next).traces == traces
        found += [state, again]
    found = [s.global_model_weights.trainable[0] for s in found]
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
    total = np.zeros([2, 1])
    x, y = data.examples['x'].astype(np.float64), data.examples['y']
    for first, last in zip(data.row_splits, data.row_splits[1:], strict=False):
        w = np.ones([2, 1])
        for row in range(first, last, 4):
            rows = slice(row, min(row + 4, last))
            error = x[rows] @ w - y[rows]
            w = w - 0.1 * 2 * x[rows].T @ error / len(error)
        total += w * (last - first)
    np.testing.assert_allclose(found[0], total / len(x), rtol=1e-5)


@tff.tensorflow.computation(tff.SequenceType(np.int32), np.int32)
def _sum_over(data, divisor):
    def step(total, value):
        safe = tf.debugging.assert_positive(value, message='not positive')
        with tf.control_dependencies([safe]):
            return total + value // divisor

    return data.reduce(0, step)


@tff.federated_computation(
    tff.FederatedType(tff.SequenceType(np.int32), tff.CLIENTS),
    tff.FederatedType(np.int32, tff.CLIENTS),
)
def sums(data, divisors):
    each = tff.federated_map(_sum_over, (data, divisors))
    most = tff.federated_broadcast(tff.federated_max(each))

    @tff.tensorflow.computation(np.int32, np.int32)
    def below(largest, mine):
        return largest - mine

    return tff.federated_map(below, (most, each)), tff.federated_sum(each)


def test_several_levels_and_what_each_client_gives():
    data, divisors = [[4, 8], [], [9], [6, 6, 6]], [2, 1, 3, 1]
    with TOGETHER():
        below, total = sums(data, divisors)
        assert runtime.obstacles(sums) == ['', '']
    assert (list(map(int, below)), int(total)) == ([12, 18, 15, 0], 27)


def test_an_error_names_the_client_and_the_step():
    with TOGETHER(), pytest.raises(UserError, match='client 2, step 1: .*positive'):
        sums([[4, 8], [], [9, 0, 1], [6]], [1, 1, 1, 1])


@pytest.mark.parametrize('seed', [None, 4])
def test_draws_are_those_of_clients_alone_if_there_is_a_seed(seed):
    @tff.tensorflow.computation(tff.SequenceType(np.float32))
    def noisy(data):
        return data.reduce(0.0, lambda s, x: s + x * tf.random.normal([]))

    @tff.federated_computation(
        tff.FederatedType(tff.SequenceType(np.float32), tff.CLIENTS)
    )
    def draw(data):
        return tff.federated_map(noisy, data)

    data = [[1.0, 2.0], [], [1.0, 2.0], [1.0]]
    with ALONE(seed=seed), runtime.in_round(3):
        expected = np.array(draw(data))
    with TOGETHER(seed=seed), runtime.in_round(3):
        found = np.array(draw(data))
    assert len(np.unique(found)) == 4
    assert np.array_equal(found, expected) == (seed is not None)


def test_which_clients_go_together_hangs_on_sizes_alone():
    def of(count, weights, rows=10, **settings):
        x = np.zeros((count * 20, 60), np.float32)
        steps = np.arange(count + 1) * (20 // rows)
        of_rows = np.arange(steps[-1] + 1) * rows
        leaf = ClientSequences(((x, of_rows),), steps)
        settings = Settings(1, 1, settings.pop('devices', ()), False, None, **settings)
        return choice.most_together([tf.zeros([weights])], [leaf], count, settings)

    assert of(100, 610) == of(64, 610) == 128
    assert of(100, 4554) == 2**21 // (4 * 4554 + 2400)
    assert of(100, 1280 * 10) > 0 == of(100, 1280 * 30)
    assert of(63, 610) == of(100, 610, lockstep=False) == 0
    assert of(2, 1280 * 62, lockstep=True) == 6
    assert of(2, 2**20, lockstep=True) == 1
    assert of(2, 610, lockstep=True) == 128
    gpu = {'devices': ('/GPU:0',)}
    assert of(2, 610, **gpu) == 128 and of(2, 2**20, **gpu) == 15
    assert of(2, 610, lockstep=False, **gpu) == 0
    blocks = [choice.blocks_of(n) for n in (1, 63, 64, 100, 128, 256, 10_000)]
    assert blocks == [1, 1, 2, 2, 4, 8, 8]


def test_elements_of_several_lengths_go_alone():
    def of(other):
        leaves = ((np.zeros(6), np.array([0, 2, 6])), (np.zeros(6), other))
        leaf = ClientSequences(leaves, np.array([0, 1, 2]))
        settings = Settings(1, 1, (), False, None, lockstep=True)
        return choice.most_together([], [leaf], 2, settings)

    assert of(np.array([0, 2, 6])) == 128
    assert of(np.array([0, 3, 6])) == 0


def test_obstacles_are_of_the_compiled_runtime():
    process = linear()
    with (
        runtime.use_stock(),
        pytest.raises(UserError, match=r'call runtime.use_compiled\(\) before'),
    ):
        runtime.obstacles(process.next)


def test_debugging_goes_client_by_client():
    process, data = linear(), of_linear([5, 2])
    broken = data.examples['x'].copy()
    broken[6] = np.inf
    examples = collections.OrderedDict(data.examples, x=broken)
    data = dataclasses.replace(data, examples=examples)
    with TOGETHER(debug=True), pytest.raises(UserError, match='client 1, step 0'):
        process.next(process.initialize(), data)

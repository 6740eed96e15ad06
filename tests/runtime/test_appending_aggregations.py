"""Aggregations that append rows: seen for what they are, and the same if not."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import runtime
from tff_transfer.runtime.blocks import Settings
from tff_transfer.runtime.phases import Phases

SIZE = 3
ONE = tff.types.to_type([('a', (np.float32, [SIZE])), ('n', np.int32)])
# The other way round than in a client's value.
ROWS = tff.types.to_type([('n', (np.int32, [None])), ('a', (np.float32, [None, SIZE]))])


def plain(rows, one):
    return tf.concat([rows, tf.expand_dims(one, 0)], 0)


def reshaped(rows, one):
    return tf.concat([rows, tf.reshape(one, [1, *one.shape])], 0)


def doubled(rows, one):
    return tf.concat([rows, tf.expand_dims(2 * one, 0)], 0)


def in_front(rows, one):
    return tf.concat([tf.expand_dims(one, 0), rows], 0)


def aggregation(append, join=lambda a, b: tf.concat([a, b], 0)):
    @tff.tensorflow.computation
    def zero():
        return {'n': tf.zeros([0], tf.int32), 'a': tf.zeros([0, SIZE])}

    @tff.tensorflow.computation(ROWS, ONE)
    def accumulate(rows, one):
        return {name: append(rows[name], one[name]) for name in ('n', 'a')}

    @tff.tensorflow.computation(ROWS, ROWS)
    def merge(first, second):
        return {name: join(first[name], second[name]) for name in ('n', 'a')}

    @tff.tensorflow.computation(ROWS)
    def report(rows):
        return rows

    @tff.federated_computation(tff.FederatedType(ONE, tff.CLIENTS))
    def gather(values):
        ones = tff.federated_value(np.int32(1), tff.CLIENTS)
        rows = tff.federated_aggregate(values, zero(), accumulate, merge, report)
        return rows, tff.federated_sum(ones), values

    return gather


def seen(computation):
    phases = Phases(computation, Settings(1, 2**20, ('/cpu:0',), False, None))
    functions, (phase, *_) = phases.functions, phases.plan.phases
    return [functions.rows(name) for name in phase.aggregates], functions.summed(phase)


def clients(count):
    return [
        {'a': np.full(SIZE, i, np.float32), 'n': np.int32(10 * i)} for i in range(count)
    ]


def test_what_appends_is_seen_and_has_no_state_in_blocks():
    rows, summed = seen(aggregation(plain))
    assert sorted(map(str, rows)) == ['(1, 0)', 'None']
    assert len(summed) == 1


@pytest.mark.parametrize(
    'made',
    [
        aggregation(reshaped),
        aggregation(doubled),
        aggregation(in_front),
        aggregation(plain, lambda a, b: tf.concat([b, a], 0)),
    ],
)
def test_what_does_anything_else_is_run_as_it_stands(made):
    assert seen(made)[0] == [None, None]


@pytest.mark.parametrize(('append', 'threads'), [(plain, 1), (plain, 3), (reshaped, 3)])
def test_rows_are_in_the_order_of_the_clients(append, threads):
    made = aggregation(append)
    for count in (0, 1, 20):
        with runtime.use_compiled(threads=threads, seed=4):
            rows, total, back = made(clients(count))
        np.testing.assert_array_equal(rows['n'], 10 * np.arange(count))
        expected = np.repeat(np.arange(count)[:, None], SIZE, 1)
        np.testing.assert_array_equal(rows['a'], expected)
        assert rows['a'].shape == (count, SIZE) and total == count == len(back)


def test_what_is_appended_may_be_changed_on_the_way():
    with runtime.use_compiled():
        rows, *_ = aggregation(doubled)(clients(5))
    np.testing.assert_array_equal(rows['n'], 20 * np.arange(5))


@pytest.mark.slow
def test_the_stock_runtime_gives_the_same_order():
    made = aggregation(plain)
    with runtime.use_stock():
        rows, *_ = made(clients(20))
    np.testing.assert_array_equal(rows['n'], 10 * np.arange(20))

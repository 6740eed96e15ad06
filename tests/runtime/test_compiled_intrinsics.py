"""Each intrinsic of TFF's public interface, against values worked out by hand."""

import asyncio
import collections
import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import runtime
from tff_transfer.data.cohorts import Cohort

INTS = tff.FederatedType(np.int32, tff.CLIENTS)
FLOATS = tff.FederatedType(np.float32, tff.CLIENTS)
VECTORS = tff.FederatedType(tff.TensorType(np.float32, [2]), tff.CLIENTS)
SERVER_INT = tff.FederatedType(np.int32, tff.SERVER)
SEQUENCE = tff.SequenceType(np.int32)


@pytest.fixture(autouse=True)
def context():
    with runtime.use_compiled(threads=2) as context:
        yield context


@tff.tensorflow.computation(np.int32)
def double(x):
    return 2 * x


@tff.tensorflow.computation(np.int32, np.int32)
def add(x, y):
    return x + y


@tff.tensorflow.computation(SEQUENCE)
def total(numbers):
    return numbers.reduce(0, lambda s, x: s + x)


@tff.tensorflow.computation(SEQUENCE)
def squares_total(numbers):
    return numbers.map(lambda x: x * x).reduce(0, lambda s, x: s + x)


def test_no_argument_and_plain_values():
    assert tff.tensorflow.computation(lambda: 3)() == 3
    assert double(4) == 8
    assert tff.federated_computation(lambda: tff.federated_value(5, tff.SERVER))() == 5


@pytest.mark.parametrize(
    ('op', 'expected'),
    [
        (tff.federated_sum, [4.0, 6.0]),
        (tff.federated_mean, [2.0, 3.0]),
        (tff.federated_min, [1.0, 2.0]),
        (tff.federated_max, [3.0, 4.0]),
    ],
)
def test_plain_aggregations(op, expected):
    comp = tff.federated_computation(lambda x: op(x), VECTORS)
    result = comp([np.array([1, 2], np.float32), np.array([3, 4], np.float32)])
    np.testing.assert_array_equal(result, np.array(expected, np.float32))
    assert result.dtype == np.float32


def test_aggregations_of_no_clients_and_of_one():
    assert tff.federated_computation(tff.federated_sum, INTS)([]) == 0
    assert tff.federated_computation(tff.federated_sum, INTS)([7]) == 7
    assert np.isnan(
        tff.federated_computation(lambda x: tff.federated_mean(x), FLOATS)([])
    )
    least = tff.federated_computation(tff.federated_min, INTS)
    assert least([]) == np.iinfo(np.int32).max


def test_weighted_mean_of_a_structure():
    member = tff.FederatedType(
        collections.OrderedDict(b=np.float32, a=tff.TensorType(np.float32, [2])),
        tff.CLIENTS,
    )

    @tff.federated_computation(member, FLOATS)
    def mean(value, weight):
        return tff.federated_mean(value, weight)

    values = [
        collections.OrderedDict(b=1.0, a=np.array([1, 0], np.float32)),
        collections.OrderedDict(b=4.0, a=np.array([4, 3], np.float32)),
    ]
    result = mean(values, [1.0, 2.0])
    assert list(result) == ['b', 'a']
    assert result['b'] == 3.0
    np.testing.assert_array_equal(result['a'], [3.0, 2.0])


def test_broadcast_map_and_results_at_clients():
    @tff.federated_computation(SERVER_INT, INTS)
    def comp(offset, values):
        broadcast = tff.federated_broadcast(offset)
        both = tff.federated_zip((broadcast, values))
        return (
            tff.federated_map(add, both),
            broadcast,
            tff.federated_map(double, offset),
        )

    at_clients, everywhere, at_server = comp(10, [1, 2, 3])
    assert at_clients == [11, 12, 13]
    assert everywhere == 10
    assert at_server == 20


def test_clients_whose_values_are_all_equal():
    equal = tff.FederatedType(np.float32, tff.CLIENTS, all_equal=True)
    product = tff.tensorflow.computation(lambda a, b: a * b, [np.float32, np.float32])

    @tff.federated_computation(equal)
    def same(value):
        return value

    @tff.federated_computation(equal, tff.FederatedType(np.float32, tff.CLIENTS))
    def scaled_sum(scale, values):
        return tff.federated_sum(
            tff.federated_map(product, tff.federated_zip((scale, values)))
        )

    with runtime.use_compiled():
        assert same(3.0) == 3.0
        assert scaled_sum(3.0, [1.0, 2.0]) == 9.0


def test_values_and_eval_at_both_placements():
    three = tff.tensorflow.computation(lambda: np.int32(3))

    @tff.federated_computation(INTS)
    def comp(values):
        at_clients = tff.federated_eval(three, tff.CLIENTS)
        constant = tff.federated_value(np.int32(2), tff.CLIENTS)
        return (
            tff.federated_sum(at_clients),
            tff.federated_sum(constant),
            tff.federated_eval(three, tff.SERVER),
            tff.federated_sum(values),
        )

    assert comp([1, 1, 1, 1]) == (12, 8, 3, 4)


def test_random_draws_of_clients_differ():
    draw = tff.tensorflow.computation(lambda: tf.random.uniform([]))

    @tff.federated_computation(INTS)
    def comp(values):
        return tff.federated_eval(draw, tff.CLIENTS), tff.federated_sum(values)

    draws, _ = comp([0] * 5)
    assert len(set(map(float, draws))) == 5


def test_aggregate_is_accumulate_then_report():
    count_and_sum = tff.StructType([np.int32, np.int32])

    @tff.tensorflow.computation(count_and_sum, np.int32)
    def accumulate(state, value):
        return state[0] + 1, state[1] + value

    @tff.tensorflow.computation(count_and_sum, count_and_sum)
    def merge(a, b):
        return a[0] + b[0], a[1] + b[1]

    @tff.tensorflow.computation(count_and_sum)
    def report(state):
        return 100 * state[0] + state[1]

    @tff.federated_computation(INTS)
    def comp(values):
        zero = tff.tensorflow.computation(lambda: (np.int32(0), np.int32(0)))()
        return tff.federated_aggregate(values, zero, accumulate, merge, report)

    assert comp([1, 2, 3]) == 306
    assert comp([]) == 0


def test_two_rounds_of_communication_in_one_computation():
    """The second one's clients use both what the first gave and their own values."""

    @tff.tensorflow.computation(np.float32, np.float32)
    def square_of_difference(x, y):
        return (x - y) ** 2

    @tff.tensorflow.computation(np.float32)
    def plus_one(x):
        return x + 1

    @tff.federated_computation(FLOATS)
    def variance(values):
        moved = tff.federated_map(plus_one, values)
        mean = tff.federated_mean(moved)
        pairs = tff.federated_zip((moved, tff.federated_broadcast(mean)))
        return tff.federated_mean(tff.federated_map(square_of_difference, pairs)), mean

    spread, mean = variance([1.0, 2.0, 3.0, 6.0])
    assert mean == 4.0
    assert spread == 3.5


@pytest.mark.parametrize('op', [tff.federated_select, tff.federated_secure_select])
def test_select(op):
    keys_type = tff.FederatedType(tff.TensorType(np.int32, [2]), tff.CLIENTS)
    rows_type = tff.TensorType(np.float32, [3])

    @tff.tensorflow.computation(rows_type, np.int32)
    def row(rows, key):
        return tf.gather(rows, key)

    @tff.tensorflow.computation(tff.SequenceType(np.float32))
    def weighted(values):
        return values.enumerate().reduce(
            0.0, lambda s, e: s + tf.cast(e[0] + 1, tf.float32) * e[1]
        )

    @tff.federated_computation(
        keys_type, SERVER_INT, tff.FederatedType(rows_type, tff.SERVER)
    )
    def comp(keys, max_key, rows):
        selected = op(keys, max_key, rows, row)
        return tff.federated_map(weighted, selected)

    rows = np.array([1, 10, 100], np.float32)
    keys = [np.array([0, 2], np.int32), np.array([1, 1], np.int32)]
    assert comp(keys, 3, rows) == [201.0, 30.0]
    with pytest.raises(Exception, match='key is not in'):
        comp([np.array([0, 3], np.int32)], 3, rows)


def test_secure_sums_are_exact_and_check_bounds():
    @tff.federated_computation(INTS)
    def bounded(values):
        return tff.federated_secure_sum(values, 100)

    assert bounded([1, 100, 0]) == 101
    with pytest.raises(Exception, match='not in'):
        bounded([1, 101])
    with pytest.raises(Exception, match='not in'):
        bounded([1, -1])

    @tff.federated_computation(INTS)
    def bits(values):
        return tff.federated_secure_sum_bitwidth(values, 4)

    assert bits([15, 15, 1]) == 31
    with pytest.raises(Exception, match='not in'):
        bits([16])

    @tff.federated_computation(INTS)
    def modular(values):
        return tff.backends.mapreduce.federated_secure_modular_sum(values, 8)

    assert modular([5, 6, 7]) == 2
    assert modular([-1]) == 7


def test_secure_sum_of_a_structure_with_bounds_of_its_own():
    member = tff.FederatedType(
        collections.OrderedDict(a=np.int32, b=tff.TensorType(np.int64, [2])),
        tff.CLIENTS,
    )

    @tff.federated_computation(member)
    def comp(values):
        return tff.federated_secure_sum(
            values, collections.OrderedDict(a=np.int32(5), b=np.int64(2**40))
        )

    big = np.array([2**40, 1], np.int64)
    result = comp([collections.OrderedDict(a=5, b=big)] * 3)
    assert result['a'] == 15
    np.testing.assert_array_equal(result['b'], [3 * 2**40, 3])


def test_sequence_intrinsics():
    @tff.federated_computation(SEQUENCE)
    def comp(numbers):
        doubled = tff.sequence_map(double, numbers)
        return (
            tff.sequence_sum(numbers),
            tff.sequence_sum(doubled),
            tff.sequence_reduce(numbers, np.int32(100), add),
        )

    assert comp([1, 2, 3]) == (6, 12, 106)
    assert comp(tf.data.Dataset.range(4, output_type=tf.int32)) == (6, 12, 106)
    assert comp(tf.data.Dataset.range(0, output_type=tf.int32)) == (0, 0, 100)


def test_sequences_of_clients_of_any_length():
    federated = tff.FederatedType(SEQUENCE, tff.CLIENTS)

    @tff.federated_computation(federated)
    def comp(data):
        sums = tff.federated_map(total, data)
        return sums, tff.federated_sum(tff.federated_map(squares_total, data))

    data = [tf.data.Dataset.range(n, output_type=tf.int32) for n in (4, 0, 1, 6)]
    sums, of_squares = comp(data)
    assert sums == [6, 0, 0, 15]
    assert of_squares == 14 + 0 + 0 + 55


def test_iterators_read_what_loops_read():
    element = collections.OrderedDict(
        x=tff.TensorType(np.float32, [None, 2]), y=tff.TensorType(np.int32, [None])
    )
    sequence = tff.SequenceType(element)

    @tff.tensorflow.computation(sequence)
    @tf.function
    def by_iterator(data):
        total, batches = 0.0, 0
        for batch in iter(data):
            # The order of steps matters, and each has to be seen once.
            total = 2 * total + tf.reduce_sum(batch['x'])
            total += tf.cast(tf.reduce_sum(batch['y']), tf.float32)
            batches += 1
        return total, batches

    @tff.federated_computation(tff.FederatedType(sequence, tff.CLIENTS))
    def comp(data):
        return tff.federated_map(by_iterator, data)

    rows = collections.OrderedDict(
        x=np.ones([7, 2], np.float32), y=np.arange(7, dtype=np.int32)
    )
    data = Cohort(rows, np.array([0, 5, 5, 7]), 2)
    # Batches of [0, 1], [2, 3] and [4]; none; and [5, 6].
    expected = [(2 * (2 * (4 + 1) + 4 + 5) + 2 + 4, 3), (0, 0), (4 + 11, 1)]
    assert comp(data) == expected
    assert comp(list(data)) == expected


def test_preprocessing_that_is_part_of_the_computation():
    """A dataset that is mapped first is read through tf.data."""
    batches = tff.SequenceType(tff.TensorType(np.int32, [None]))

    @tff.tensorflow.computation(SEQUENCE)
    def batch(numbers):
        return numbers.filter(lambda x: x > 0).repeat(2).batch(3)

    @tff.tensorflow.computation(batches)
    def largest_sum(data):
        return data.reduce(0, lambda s, x: tf.maximum(s, tf.reduce_sum(x)))

    @tff.federated_computation(tff.FederatedType(SEQUENCE, tff.CLIENTS))
    def comp(data):
        return tff.federated_map(largest_sum, tff.federated_map(batch, data))

    # 1 2 3 | 1 2 3 and 1 1 are the batches.
    data = [tf.data.Dataset.range(n, output_type=tf.int32) for n in (4, 2)]
    assert comp(data) == [6, 2]


def test_datasets_of_client_data():
    sets = {'a': {'x': np.arange(3, dtype=np.int32)}, 'b': {'x': np.ones(2, np.int32)}}
    source = tff.simulation.datasets.TestClientData(sets)
    sequence = tff.SequenceType(collections.OrderedDict(x=np.int32))

    @tff.tensorflow.computation(sequence)
    def sum_x(data):
        return data.reduce(0, lambda s, e: s + e['x'])

    @tff.federated_computation(tff.FederatedType(sequence, tff.CLIENTS))
    def comp(data):
        return tff.federated_map(sum_x, data)

    datasets = [source.create_tf_dataset_for_client(c) for c in source.client_ids]
    assert comp(datasets) == [3, 2]


def test_batches_of_odd_shapes():
    """Elements that cannot be rows of one array: their shapes are kept."""
    element = collections.OrderedDict(
        words=tff.TensorType(np.int32, [None, None]), name=tff.TensorType(np.str_)
    )
    sequence = tff.SequenceType(element)

    @tff.tensorflow.computation(sequence)
    def count(data):
        return data.reduce(
            (0, 0),
            lambda s, e: (
                s[0] + tf.reduce_sum(e['words']) + 100 * tf.shape(e['words'])[1],
                s[1] + tf.strings.length(e['name']),
            ),
        )

    def rows():
        yield collections.OrderedDict(words=np.ones([2, 3], np.int32), name=b'abc')
        yield collections.OrderedDict(words=np.ones([1, 5], np.int32), name=b'')

    data = tf.data.Dataset.from_generator(
        rows,
        output_signature=collections.OrderedDict(
            words=tf.TensorSpec([None, None], tf.int32),
            name=tf.TensorSpec([], tf.string),
        ),
    )

    @tff.federated_computation(tff.FederatedType(sequence, tff.CLIENTS))
    def comp(data):
        return tff.federated_map(count, data)

    assert comp([data, data.take(1)]) == [(811, 3), (306, 3)]


def test_values_whose_shape_differs_by_client():
    open_type = tff.FederatedType(tff.TensorType(np.int32, [None]), tff.CLIENTS)

    @tff.tensorflow.computation(tff.TensorType(np.int32, [None]))
    def twice(x):
        return tf.concat([x, x], 0)

    @tff.federated_computation(open_type)
    def comp(values):
        return tff.federated_map(twice, values)

    result = comp([np.array([1, 2], np.int32), np.zeros(0, np.int32)])
    assert [r.tolist() for r in result] == [[1, 2, 1, 2], []]


def test_lambda_with_several_graphs_at_clients():
    @tff.federated_computation(np.int32)
    def four_times(x):
        return double(double(x))

    @tff.federated_computation(INTS)
    def comp(values):
        return tff.federated_map(four_times, values)

    assert comp([1, 2]) == [4, 8]


def test_containers_and_dtypes_are_tffs():
    Point = collections.namedtuple('Point', 'x y')

    @tff.tensorflow.computation(np.int32)
    def point(x):
        return Point(x, [tf.cast(x, tf.float32), {'k': tf.constant('s')}])

    result = point(3)
    assert isinstance(result, Point)
    assert isinstance(result.y, list)
    assert result.x == 3 and result.y[1]['k'] == b's'


def test_wrong_arguments_are_named():
    comp = tff.federated_computation(lambda x: tff.federated_sum(x), VECTORS)
    with pytest.raises(TypeError, match=r'client 1.*float32\[2\].*float32\[3\]'):
        comp([np.zeros(2, np.float32), np.zeros(3, np.float32)])
    with pytest.raises(TypeError, match='a list with a value for each client'):
        comp(3)

    @tff.federated_computation(INTS, INTS)
    def two(a, b):
        return tff.federated_sum(a), tff.federated_sum(b)

    with pytest.raises(TypeError, match=r'different numbers of clients: \[1, 2\]'):
        two([1], [1, 2])


def test_traced_once_for_all_sizes(context):
    rows_type = tff.SequenceType(
        collections.OrderedDict(x=tff.TensorType(np.float32, [None, 2]))
    )

    @tff.tensorflow.computation(rows_type)
    def sums(data):
        return data.reduce(0.0, lambda s, e: s + tf.reduce_sum(e['x']))

    @tff.federated_computation(tff.FederatedType(rows_type, tff.CLIENTS))
    def comp(data):
        return tff.federated_sum(tff.federated_map(sums, data))

    def ones(sizes, batch_size):
        rows = collections.OrderedDict(x=np.ones([sum(sizes), 2], np.float32))
        return Cohort(rows, np.append(0, np.cumsum(sizes)), batch_size)

    assert comp(ones([3, 5], 2)) == 16
    first = context.program(comp).traces
    for sizes, batch_size in [([1] * 7, 3), ([0], 2), ([100, 0, 3], 7), ([], 1)]:
        assert comp(ones(sizes, batch_size)) == 2 * sum(sizes)
        assert comp(list(ones(sizes, batch_size))) == 2 * sum(sizes)
    assert context.program(comp).traces == first


def test_threads_and_event_loops():
    comp = tff.federated_computation(lambda x: tff.federated_sum(x), INTS)

    def call(n):
        with runtime.use_compiled(threads=2):
            return comp(list(range(n)))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(call, range(20))) == [n * (n - 1) // 2 for n in range(20)]

    async def main():
        return comp([1, 2])

    assert asyncio.run(main()) == 3


PAIRS = tff.FederatedType(
    tff.StructWithPythonType(
        [('a', tff.TensorType(np.float32, [2])), ('b', np.int32)],
        collections.OrderedDict,
    ),
    tff.CLIENTS,
)


@tff.tensorflow.computation(PAIRS.member, np.int32)
def moved(pair, by):
    return collections.OrderedDict(
        a=pair['a'] * tf.cast(by, tf.float32), b=pair['b'] + by
    )


@tff.federated_computation(PAIRS, INTS)
def move(pairs, by):
    return (
        tff.federated_map(moved, (pairs, by)),
        tff.federated_sum(by),
    )


def test_stacked_values_go_in_and_come_out_as_arrays():
    a, b = np.arange(20, dtype=np.float32).reshape(10, 2), np.arange(10, dtype=np.int32)
    stacked = runtime.StackedClients(collections.OrderedDict(a=a, b=b))
    by = list(range(1, 11))
    found, total = move(stacked, by)
    assert isinstance(found, runtime.StackedClients) and total == sum(by)
    np.testing.assert_array_equal(found.arrays['a'], a * np.array(by)[:, None])
    np.testing.assert_array_equal(found.arrays['b'], b + by)
    assert found.arrays['a'].dtype == np.float32
    # They go in again, and each client's value is there too.
    again, _ = move(found, by)
    listed, _ = move(list(found), by)
    assert isinstance(listed, list) and isinstance(listed[3], collections.OrderedDict)
    for ours, theirs in zip(again, listed, strict=True):
        np.testing.assert_array_equal(ours['a'], theirs['a'])
        assert ours['b'] == theirs['b']


@pytest.mark.parametrize(
    ('arrays', 'words'),
    [
        ({'a': np.zeros((3, 2)), 'b': np.zeros(3, np.int32)}, r'\.a should be of type'),
        (
            {'a': np.zeros((3, 1), np.float32), 'b': np.zeros(3, np.int32)},
            r'float32\[3, 1\]',
        ),
        ({'a': np.zeros((3, 2), np.float32)}, 'should be of type'),
        ({'a': np.zeros((3, 2), np.float32), 'b': np.zeros(2, np.int32)}, 'numbers of'),
    ],
)
def test_stacked_values_that_do_not_fit_are_told(arrays, words):
    with pytest.raises(TypeError, match=words):
        move(runtime.StackedClients(arrays), [1, 2, 3])


def test_what_has_no_shape_cannot_be_stacked():
    rows = tff.FederatedType(tff.TensorType(np.int32, [None]), tff.CLIENTS)
    identity = tff.federated_computation(lambda x: x, rows)
    with pytest.raises(TypeError, match='cannot be stacked'):
        identity(runtime.StackedClients(np.zeros((2, 3), np.int32)))


def test_one_array_can_be_stacked():
    stacked = runtime.StackedClients(np.array([1, 2, 3], np.int32))
    doubled = tff.federated_computation(lambda x: tff.federated_map(double, x), INTS)
    found = doubled(stacked)
    np.testing.assert_array_equal(found.arrays, [2, 4, 6])
    assert found[-1] == 6 and len(found) == 3

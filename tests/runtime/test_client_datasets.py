"""Lists of `tf.data.Dataset`s: the arrays are those that tf.data itself gives."""

import collections
import gc
import itertools
import sqlite3
import weakref

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import machine, runtime
from tff_transfer.data import federated, sqlite
from tff_transfer.errors import UserError
from tff_transfer.runtime import arguments
from tff_transfer.runtime.datasets import pipelines, plans, shuffles


@pytest.fixture(autouse=True)
def no_seed():
    """Shuffles without a seed have none, whatever tests before did to all of them."""
    tf.random.set_seed(None)


def examples(rows, first=0):
    x = np.arange(6 * rows, dtype=np.float32).reshape(rows, 3, 2) + first
    return collections.OrderedDict(x=x, a=np.arange(rows, dtype=np.int32) + first)


def slices(rows=7, first=0):
    return tf.data.Dataset.from_tensor_slices(examples(rows, first))


def parts(batch):
    return collections.OrderedDict(
        y=tf.reshape(batch['a'], [-1, 1]), x=tf.reshape(batch['x'], [-1, 6])
    )


def scaled(example):
    x = tf.cast(tf.cast(example['x'], tf.uint8), tf.float32) / 255.0
    return x[..., tf.newaxis], tf.one_hot(example['a'], 3), 1 - example['a']


def read(datasets):
    """Returns the elements of datasets as the runtime's arrays hold them."""
    element = tff.types.tensorflow_to_type(datasets[0].element_spec)
    member = tff.SequenceType(element)
    (leaf,) = arguments.client_values(datasets, member, 'the argument')
    result = []
    for client in range(len(datasets)):
        starts, *flat = leaf.part(client, client + 1)
        result.append([])
        for step in range(starts[-1]):
            arrays, values = iter(flat), []
            for _, kind in (
                tff.structure.to_elements(element)
                if isinstance(element, tff.StructType)
                else [(None, element)]
            ):
                values.append(one_of(arrays, kind, step))
            result[-1].append(values)
    return result


def one_of(arrays, kind, step):
    values = next(arrays)
    if None not in kind.shape:
        return values[step]
    starts = next(arrays)
    value = values[starts[step] : starts[step + 1]]
    ragged = None in kind.shape[1:]
    return value.reshape(next(arrays)[step]) if ragged else value


def by_tf_data(dataset):
    result = []
    for element in dataset.as_numpy_iterator():
        named = isinstance(element, dict)
        values = list(element.values()) if named else element
        result.append(list(values) if isinstance(values, list | tuple) else [values])
    return result


def assert_same(found, expected):
    assert [len(dataset) for dataset in found] == [len(d) for d in expected]
    for of_found, of_expected in zip(found, expected, strict=True):
        for a, b in zip(of_found, of_expected, strict=True):
            for x, y in zip(a, b, strict=True):
                assert np.shape(x) == np.shape(y)
                assert np.asarray(x).dtype == np.asarray(y).dtype
                np.testing.assert_array_equal(x, y)


def shuffled(**others):
    return lambda d: d.shuffle(3, seed=5, **others)


# Each: the chain, and what is left to TensorFlow ('' for nothing, else its class).
ON_ARRAYS = {
    'batch': lambda d: d.batch(3),
    'in_parallel': lambda d: d.batch(3, num_parallel_calls=2).prefetch(2),
    'dropped': lambda d: d.batch(3, drop_remainder=True),
    'rows': lambda d: d,
    'nothing_left': lambda d: d.skip(9).batch(3),
    'less_than_a_batch': lambda d: d.batch(10, drop_remainder=True),
    'repeat': lambda d: d.repeat(3).batch(4),
    'repeat_batches': lambda d: d.batch(4).repeat(3),
    'repeat_once': lambda d: d.batch(4).repeat(1),
    'take_skip': lambda d: d.skip(1).take(5).batch(2).skip(1).take(1),
    'take_too_many': lambda d: d.take(100).batch(3),
    'shuffle': lambda d: shuffled()(d).batch(3),
    'shuffle_fixed': lambda d: shuffled(reshuffle_each_iteration=False)(d).batch(3),
    'shuffle_batches': lambda d: shuffled()(d.batch(2)),
    'shuffle_repeat': lambda d: shuffled()(d).repeat(3).batch(3),
    'shuffle_batch_repeat': lambda d: shuffled()(d).batch(3).repeat(3),
    'shuffle_prefetch_repeat': lambda d: shuffled()(d).prefetch(1).repeat(2).batch(3),
    'repeat_shuffle': lambda d: shuffled()(d.repeat(3)).batch(3),
    'shuffle_all': lambda d: d.shuffle(100, seed=2).take(4).batch(3),
    'tutorial': lambda d: shuffled()(d.repeat(3)).batch(3).map(parts).prefetch(2),
    'map_example': lambda d: d.map(scaled).batch(3),
    'map_in_parallel': lambda d: d.skip(2).batch(3).map(parts, num_parallel_calls=2),
    'map_dropped': lambda d: d.batch(3, drop_remainder=True).map(parts),
    'options': lambda d: d.batch(3).with_options(tf.data.Options()),
}
PARTLY = {
    'batch_twice': (lambda d: d.batch(2, drop_remainder=True).batch(2), '_Batch'),
    'shuffle_twice': (lambda d: shuffled()(shuffled()(d)).batch(3), '_Shuffle'),
    'unseeded_order': (
        lambda d: d.shuffle(1, reshuffle_each_iteration=False).batch(3),
        '_Shuffle',
    ),
    'endless_taken': (lambda d: d.repeat().take(11).batch(3), '_Take'),
    'repeated_taken': (lambda d: d.repeat(10**12).batch(2).take(5), '_Take'),
    'filter': (lambda d: d.filter(lambda e: e['a'] % 2 == 0).batch(2), '_Filter'),
    'filter_repeat': (lambda d: d.filter(lambda e: e['a'] > 2).repeat(2), '_Filter'),
    'shard': (lambda d: d.shard(2, 1).batch(2), '_Shard'),
    'zip': (
        lambda d: (
            tf.data.Dataset.zip((d.map(lambda e: e['x']), d.map(lambda e: e['a'])))
            .batch(2)
            .prefetch(1)
        ),
        '_Zip',
    ),
    'concatenate': (lambda d: d.concatenate(d.take(2)).batch(4), '_Concatenate'),
    'cache': (lambda d: d.cache().repeat(2).batch(2), '_Repeat'),
    'interleave': (
        lambda d: tf.data.Dataset.range(2).interleave(lambda _: d).batch(3),
        '_Interleave',
    ),
    'reversed_batches': (
        lambda d: d.batch(3).map(lambda b: (b['x'][::-1], b['a'] + 1)),
        '_Map',
    ),
    'normalised_batches': (
        lambda d: d.batch(3).map(lambda b: b['x'] - tf.reduce_mean(b['x'])),
        '_Map',
    ),
    'batch_in_a_row': (lambda d: d.batch(3).map(lambda b: b['x'][tf.newaxis]), '_Map'),
    'first_of_each': (lambda d: d.batch(3).map(lambda b: b['a'][1:]), '_Map'),
    'wider': (lambda d: d.map(lambda e: e['a'] + [1, 2]).batch(2), '_Map'),
    'rows_differ': (lambda d: d.map(lambda e: tf.range(e['a'])), '_Map'),
    'by_python': (
        lambda d: d.map(
            lambda e: tf.ensure_shape(
                tf.numpy_function(lambda a: np.int32(a * 2), [e['a']], tf.int32), []
            )
        ).batch(2),
        '_Map',
    ),
    'generator': (
        lambda d: tf.data.Dataset.from_generator(
            lambda: iter([1, 2, 3]), output_signature=tf.TensorSpec([], tf.int64)
        ).batch(2),
        '_FlatMap',
    ),
    'function': (lambda d: tf.function(lambda: d.batch(3))(), '_Variant'),
}
CHAINS = {name: (chain, '') for name, chain in ON_ARRAYS.items()} | PARTLY


@pytest.mark.parametrize('name', CHAINS)
def test_elements_are_those_of_tf_data(name):
    chain, left = CHAINS[name]

    def made():
        return [chain(slices(7)), chain(slices(5, 40)), chain(slices(1, 90))]

    datasets, twins = made(), made()
    for dataset in datasets:
        plan = plans.plan(dataset)
        assert (plan.arrays is not None) == (left == '')
        assert type(plan.source).__name__.startswith(left or '_TensorSlice')
    # Two rounds with the same datasets.
    for _ in range(2):
        expected = [by_tf_data(twin) for twin in twins]
        assert any(expected) or name in ('nothing_left', 'less_than_a_batch')
        assert_same(read(datasets), expected)


def test_other_dtypes_and_structures():
    rows = {
        'b': (np.array([b'a', b'', b'ccc']), np.array([True, False, True])),
        'a': np.array([[1], [2], [255]], np.uint8),
    }
    dataset = tf.data.Dataset.from_tensor_slices(rows).shuffle(3, seed=1).batch(2)
    assert plans.plan(dataset).arrays is not None
    member = tff.SequenceType(tff.types.tensorflow_to_type(dataset.element_spec))
    (leaf,) = arguments.client_values([dataset] * 2, member, 'the argument')
    twin = tf.data.Dataset.from_tensor_slices(rows).shuffle(3, seed=1).batch(2)
    for client in range(2):
        starts, b, _, c, _, a, a_starts = leaf.part(client, client + 1)
        batches = list(twin.as_numpy_iterator())
        np.testing.assert_array_equal(starts, [0, 2])
        np.testing.assert_array_equal(a_starts, [0, 2, 3])
        np.testing.assert_array_equal(a, np.concatenate([e['a'] for e in batches]))
        np.testing.assert_array_equal(b, np.concatenate([e['b'][0] for e in batches]))
        np.testing.assert_array_equal(c, np.concatenate([e['b'][1] for e in batches]))


def test_clients_that_differ_and_lists():
    """Datasets in part read by TensorFlow, of other lengths and shapes, and a list."""
    member = tff.SequenceType(tff.TensorType(np.int64, [None]))
    numbers = tf.data.Dataset.range(5)
    rows = np.arange(6).reshape(3, 2)
    data = [
        numbers.batch(2),
        tf.data.Dataset.from_tensor_slices(rows),
        numbers.filter(lambda n: n > 2).batch(2, drop_remainder=True),
        [np.array([7]), np.zeros(0, np.int64)],
        tf.data.Dataset.from_tensors(np.array([4, 5, 6])),
        numbers.take(0).batch(2),
    ]
    (leaf,) = arguments.client_values(data, member, 'the argument')
    expected = [
        [[0, 1], [2, 3], [4]],
        rows.tolist(),
        [[3, 4]],
        [[7], []],
        [[4, 5, 6]],
        [],
    ]
    for first, last in [(0, 6), (0, 0), (2, 5), (5, 6), (1, 2)]:
        starts, values, of_values = leaf.part(first, last)
        found = np.split(values, of_values[1:-1]) if len(of_values) > 1 else []
        assert [len(e) for e in expected[first:last]] == np.diff(starts).tolist()
        wanted = [batch for e in expected[first:last] for batch in e]
        assert [v.tolist() for v in found] == wanted
    assert leaf.nbytes().tolist() == [40, 48, 16, 8, 24, 0]
    assert leaf.some(3, 4).head(1).part(0, 1)[1].tolist() == [7]


def test_no_clients():
    member = tff.SequenceType(tff.types.tensorflow_to_type(slices().element_spec))
    (leaf,) = arguments.client_values([], member, 'the argument')
    starts, x, a = leaf.part(0, 0)
    assert starts.tolist() == [0] and x.shape == (0, 3, 2) and a.dtype == np.int32


def rows_of(dataset):
    return [int(a) for (elements,) in [read([dataset])] for _, a in elements]


def test_a_shuffle_without_seed_draws_anew_each_round():
    dataset = slices(40).shuffle(10)
    rounds = [rows_of(dataset) for _ in range(3)]
    assert all(sorted(r) == list(range(40)) for r in rounds)
    assert len(set(map(tuple, rounds))) == 3
    # An element cannot come before the buffer has reached it.
    assert all(a < at + 10 for r in rounds for at, a in enumerate(r))


def test_epochs_of_a_shuffle_without_seed_differ():
    dataset = slices(20).shuffle(20).batch(20).repeat(2)
    (batches,) = read([dataset])
    assert [sorted(a) for _, a in batches] == [list(range(20))] * 2
    assert batches[0][1].tolist() != batches[1][1].tolist()


def test_a_seed_for_all_operations_is_kept():
    tf.random.set_seed(7)
    expected = [a for _, a in by_tf_data(slices(20).shuffle(20))]
    tf.random.set_seed(7)
    found = rows_of(slices(20).shuffle(20))
    tf.random.set_seed(None)
    assert found == expected


def test_orders_are_left_to_a_tensorflow_that_draws_otherwise(monkeypatch):
    monkeypatch.setattr(shuffles, 'are_known', lambda: False)
    dataset = slices(9).shuffle(4, seed=3).batch(2)
    assert type(plans.plan(dataset).source).__name__ == '_ShuffleDataset'


def test_an_unknown_tensorflow_reads_the_whole(monkeypatch):
    dataset = slices(9).batch(2)
    monkeypatch.delattr(dataset, '_batch_size')
    assert plans.plan(dataset).source is dataset
    assert_same(read([dataset]), [by_tf_data(slices(9).batch(2))])


def test_what_draws_or_counts_does_so_each_round():
    counter = tf.Variable(0, dtype=tf.int64)
    drawn = tf.data.Dataset.range(3).map(lambda _: tf.random.uniform([])).repeat(2)
    counted = tf.data.Dataset.range(2).map(lambda _: counter.assign_add(1)).repeat(2)
    draws = [tuple(float(v) for (v,) in read([drawn])[0]) for _ in range(2)]
    # Each epoch, too.
    assert len(set(draws[0] + draws[1])) == 12
    counts = [[int(v) for (v,) in read([counted])[0]] for _ in range(2)]
    assert counts == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_datasets_are_not_kept():
    dataset = slices().shuffle(3, seed=1)
    batches = dataset.batch(2)
    read([batches, batches])
    gone = weakref.ref(dataset), weakref.ref(batches)
    del dataset, batches
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


@tff.tensorflow.computation(tff.SequenceType(np.int64))
def total(numbers):
    return numbers.reduce(np.int64(0), lambda s, n: s + n)


@tff.federated_computation(tff.FederatedType(tff.SequenceType(np.int64), tff.CLIENTS))
def totals(numbers):
    return tff.federated_map(total, numbers)


def test_an_endless_dataset_is_refused():
    endless = tf.data.Dataset.range(3).repeat()
    with runtime.use_compiled():
        for dataset in (endless, endless.shuffle(2), endless.map(lambda n: n + 1)):
            with pytest.raises(UserError, match=r'client 1 is an endless.*take\(n\)'):
                totals([tf.data.Dataset.range(3), dataset])
        with pytest.raises(UserError, match='endless'):
            total(endless)
        assert totals([endless.take(4), endless.take(1)]) == [0 + 1 + 2 + 0, 0]
        assert total(endless.take(4)) == 3


def test_an_endless_dataset_that_does_not_say_so(monkeypatch, caplog):
    endless = tf.data.Dataset.range(3).repeat().filter(lambda n: n < 2)
    monkeypatch.setattr(pipelines, '_LONG_S', 0)
    little = machine.Memory(2**30, 2**14)
    monkeypatch.setattr(machine, 'memory', lambda: little)
    with runtime.use_compiled(), pytest.raises(UserError) as raised:
        totals([tf.data.Dataset.range(3), endless])
    assert 'client 1' in str(raised.value) and 'take(n)' in str(raised.value)
    assert '\n' not in str(raised.value)
    assert sum('endless' in record.message for record in caplog.records) == 1


def test_more_than_fits_is_refused():
    with runtime.use_compiled(), pytest.raises(UserError, match='client 0 holds'):
        totals([tf.data.Dataset.from_tensor_slices(np.arange(3)).repeat(10**12)])


def test_a_dataset_of_another_type_is_refused():
    floats = tf.data.Dataset.from_tensor_slices(np.zeros(3, np.float32))
    with runtime.use_compiled():
        with pytest.raises(TypeError, match='client 1 should be a dataset of int64'):
            totals([tf.data.Dataset.range(3), floats])
        with pytest.raises(TypeError, match='client 0 should be a tf.data.Dataset'):
            totals([3])


def tutorial(dataset, seed=None):
    def batch_format_fn(element):
        return collections.OrderedDict(
            x=tf.reshape(element['pixels'], [-1, 784]),
            y=tf.reshape(element['label'], [-1, 1]),
        )

    shuffled = dataset.repeat(2).shuffle(5, seed=seed)
    return shuffled.batch(4).map(batch_format_fn).prefetch(2)


def people(path=None):
    """Three clients' images as TFF's `ClientData`, in memory or in SQLite."""
    counts = np.array([6, 1, 9])
    x = np.random.default_rng(2).integers(0, 256, (16, 28, 28, 1)).astype(np.uint8)
    y = np.arange(16, dtype=np.int32) % 10
    if path is None:
        splits = np.append(0, np.cumsum(counts))
        return tff.simulation.datasets.TestClientData(
            {
                str(c): collections.OrderedDict(
                    label=y[first:last], pixels=x[first:last, ..., 0] / np.float32(255)
                )
                for c, (first, last) in enumerate(itertools.pairwise(splits))
            }
        )
    data = federated.FederatedData(
        'people', x, y, ('0', '1', '2'), counts, np.zeros_like(counts), 10
    )
    sqlite.write(data, path)
    spec = collections.OrderedDict(
        label=tf.TensorSpec([], tf.int32), pixels=tf.TensorSpec([28, 28], tf.float32)
    )
    return tff.simulation.datasets.load_and_parse_sql_client_data(
        str(path), spec, 'all_train'
    )


@pytest.mark.parametrize('source', ['_TensorSliceDataset', 'SqlDatasetV2'])
def test_chain_of_the_tutorial(source, tmp_path):
    sql = source == 'SqlDatasetV2'
    clients = people(tmp_path / 'people.sqlite' if sql else None)

    def made(seed):
        each = map(clients.create_tf_dataset_for_client, clients.client_ids)
        return [tutorial(dataset, seed) for dataset in each]

    datasets, twins = made(1), made(1)
    plan = plans.plan(datasets[0])
    assert type(plan.source).__name__ == source and len(plan.maps) == 1 + sql
    for _ in range(2):
        assert_same(read(datasets), [by_tf_data(twin) for twin in twins])
    # Without a seed two rounds have the same examples in other orders.
    datasets = made(None)
    rounds = [read(datasets) for _ in range(2)]
    flat = [np.concatenate([x for x, _ in r[2]]) for r in rounds]
    assert flat[0].shape == (18, 784) and (flat[0] != flat[1]).any()
    assert_rows_are_permuted(*flat)


def assert_rows_are_permuted(a, b):
    np.testing.assert_array_equal(*(m[np.lexsort(m.T)] for m in (a, b)))


def test_a_database_is_read_each_round(tmp_path):
    path = tmp_path / 'people.sqlite'
    clients = people(path)
    dataset = clients.create_tf_dataset_for_client('1').repeat(3).batch(2)
    assert [len(label) for label, _ in read([dataset])[0]] == [2, 1]
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM examples WHERE client_id = '1'")
    assert read([dataset]) == [[]]


def test_what_is_kept_of_a_dataset_is_for_one_type_and_goes_with_it():
    dataset = tf.data.Dataset.from_tensor_slices(np.arange(10).reshape(5, 2)).batch(3)
    for _ in range(2):
        for shape, arrays in (
            ([None, 2], [np.arange(10).reshape(5, 2), [0, 3, 5]]),
            ([None, None], [np.arange(10), [0, 6, 10], [[3, 2], [2, 2]]]),
        ):
            member = tff.SequenceType(tff.TensorType(np.int64, shape))
            (leaf,) = arguments.client_values([dataset], member, 'the argument')
            starts, *found = leaf.part(0, 1)
            np.testing.assert_array_equal(starts, [0, 2])
            for array, expected in zip(found, arrays, strict=True):
                np.testing.assert_array_equal(array, expected)
    alive = weakref.ref(dataset)
    del dataset, leaf
    gc.collect()
    assert alive() is None

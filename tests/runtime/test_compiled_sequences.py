"""Results that are sequences, of the server and of each client."""

import collections

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import runtime
from tff_transfer.data.cohorts import Cohort

# Not in the order of the names, which is that of tf.nest.
BATCH = collections.OrderedDict(
    b=tff.TensorType(np.float32, [None, 2]), a=tff.TensorType(np.int32, [None])
)
SEQUENCE = tff.SequenceType(BATCH)
CLIENTS = tff.FederatedType(SEQUENCE, tff.CLIENTS)


def dataset(rows):
    arrays = collections.OrderedDict(
        b=np.arange(2 * rows, dtype=np.float32).reshape(rows, 2),
        a=np.arange(rows, dtype=np.int32),
    )
    return tf.data.Dataset.from_tensor_slices(arrays).batch(2)


@tff.tensorflow.computation(SEQUENCE)
def preprocess(data):
    named = data.map(lambda e: collections.OrderedDict(y=2 * e['b'], x=e['a']))
    return named.take(1)


@tff.tensorflow.computation(SEQUENCE)
def total_and_rest(data):
    return data.reduce(0, lambda s, e: s + tf.reduce_sum(e['a'])), data.skip(1)


@tff.federated_computation(CLIENTS)
def sequences(data):
    return (
        data,
        tff.federated_map(preprocess, data),
        tff.federated_map(total_and_rest, data),
        tff.federated_sum(tff.federated_map(total_and_rest, data)[0]),
    )


def elements(result):
    """Returns a dataset's elements as lists of pairs, so that order counts."""
    assert isinstance(result, tf.data.Dataset)
    return [
        [(name, value.numpy().tolist()) for name, value in element.items()]
        for element in result
    ]


def test_sequences_of_each_client():
    with runtime.use_compiled(threads=2):
        same, mapped, pairs, whole = sequences([dataset(3), dataset(0), dataset(1)])
    first = [('b', [[0, 1], [2, 3]]), ('a', [0, 1])]
    assert [elements(s) for s in same] == [
        [first, [('b', [[4, 5]]), ('a', [2])]],
        [],
        [[('b', [[0, 1]]), ('a', [0])]],
    ]
    assert [elements(s) for s in mapped] == [
        [[('y', [[0, 2], [4, 6]]), ('x', [0, 1])]],
        [],
        [[('y', [[0, 2]]), ('x', [0])]],
    ]
    assert mapped[1].element_spec['y'] == tf.TensorSpec([None, 2], tf.float32)
    assert [total for total, _ in pairs] == [3, 0, 0]
    rest = [elements(r) for _, r in pairs]
    assert rest == [[[('b', [[4, 5]]), ('a', [2])]], [], []]
    assert whole == 3


def test_a_cohort_preprocessed_and_handed_on():
    """What comes back is client data for the next computation."""
    rows = collections.OrderedDict(
        b=np.arange(8, dtype=np.float32).reshape(4, 2), a=np.arange(4, dtype=np.int32)
    )

    @tff.federated_computation(CLIENTS)
    def batches(data):
        return tff.federated_map(
            tff.tensorflow.computation(lambda d: d.take(1), SEQUENCE), data
        )

    with runtime.use_compiled():
        kept = batches(Cohort(rows, np.array([0, 3, 4]), 2))
        totals = sequences(kept)[2]
    assert [total for total, _ in totals] == [0 + 1, 3]


def test_sequences_made_by_clients_and_at_the_server():
    count = tff.tensorflow.computation(lambda: tf.data.Dataset.range(3))

    @tff.federated_computation(CLIENTS, tff.FederatedType(SEQUENCE, tff.SERVER))
    def comp(data, at_server):
        return (
            data,
            tff.federated_eval(count, tff.CLIENTS),
            tff.federated_eval(count, tff.SERVER),
            tff.federated_map(preprocess, at_server),
        )

    with runtime.use_compiled():
        _, made, counted, mapped = comp([dataset(1), dataset(0)], dataset(3))
    assert [[int(n) for n in s] for s in [*made, counted]] == [[0, 1, 2]] * 3
    assert elements(mapped) == [[('y', [[0, 2], [4, 6]]), ('x', [0, 1])]]


@pytest.mark.parametrize('lockstep', [False, True])
def test_clients_that_loop_over_what_the_server_made(lockstep):
    numbers = tff.SequenceType(np.int32)

    @tff.tensorflow.computation(numbers)
    def double(data):
        return data.map(lambda n: 2 * n)

    @tff.tensorflow.computation(numbers, np.int32)
    def add_all(data, x):
        @tf.function
        def loop(data, x):
            for n in iter(data):
                x += n
            return x

        return loop(data, x)

    @tff.federated_computation(
        tff.FederatedType(numbers, tff.SERVER), tff.FederatedType(np.int32, tff.CLIENTS)
    )
    def comp(data, x):
        doubled = tff.federated_broadcast(tff.federated_map(double, data))
        return tff.federated_map(add_all, (doubled, x))

    with runtime.use_compiled(lockstep=lockstep):
        assert comp([1, 2, 3], [0, 100]) == [12, 112]


@pytest.mark.slow
def test_sequences_are_those_of_the_stock_runtime():
    results = []
    for use in (runtime.use_compiled, runtime.use_stock):
        with use():
            same, mapped, pairs, whole = sequences([dataset(5), dataset(1)])
            datasets = [*same, *mapped, *(rest for _, rest in pairs)]
            results.append(
                (
                    [type(next(iter(d), None)) for d in datasets],
                    [d.element_spec for d in datasets],
                    [elements(d) for d in datasets],
                    [total for total, _ in pairs],
                    whole,
                )
            )
    assert results[0] == results[1]

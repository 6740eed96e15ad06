"""Blocks of clients, their memory, their devices and their errors."""

import collections
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.core.impl.compiler import building_blocks
from tensorflow_federated.python.core.impl.computation import computation_impl

from tff_transfer import aligned, models, runtime
from tff_transfer.data.cohorts import Cohort
from tff_transfer.errors import UserError
from tff_transfer.runtime import blocks, executors, tensors
from tff_transfer.runtime.layouts import ClientSequences, ClientTensors

BATCHES = tff.SequenceType(
    collections.OrderedDict(x=tff.TensorType(np.float32, [None, 2]))
)


def cohort(rows, sizes, batch_size=2):
    return Cohort(
        collections.OrderedDict(x=np.asarray(rows, np.float32).reshape(-1, 2)),
        np.append(0, np.cumsum(sizes)),
        batch_size,
    )


def settings(threads=1, block_bytes=2**30, devices=('/CPU:0',), debug=False):
    return blocks.Settings(threads, block_bytes, devices, debug, None)


def split(leaves, count, settings, fewest=blocks.BLOCKS):
    divided = blocks.divide(leaves, count, settings, fewest)
    return divided.in_calls(settings.threads * len(settings.devices))


def test_the_last_of_calls_that_run_at_a_time_runs_in_this_thread():
    def run(call):
        return call, threading.get_ident() == here

    here = threading.get_ident()
    of_two = settings(threads=2)
    found = list(executors._in_order(run, [0, 1], of_two))
    assert found == [(0, False), (1, True)]
    found = list(executors._in_order(run, [0, 1, 2, 3], of_two))
    assert found == [(number, False) for number in range(4)]


def leaf(sizes):
    values = np.zeros([sum(sizes), 4], np.float32)
    starts = np.append(0, np.cumsum(sizes)).astype(np.int64)
    return ClientSequences(((values,),), starts)


def test_blocks_are_balanced_by_bytes():
    sizes = [1, 1, 1, 1, 4, 1, 9]
    # Eighths of about 18 rows.
    cuts = [0, 2, 4, 5, 6, 7]
    assert split([leaf(sizes)], 7, settings()) == [cuts]
    assert split([leaf(sizes)], 7, settings(debug=True))[-1] == [6, 7]
    # 16 bytes a row: at most about four rows in a call.
    shares = split([leaf([1] * 64)], 64, settings(block_bytes=64))
    assert [(s[0], s[-1]) for s in shares] == [(i, i + 4) for i in range(0, 64, 4)]
    assert split([leaf([])], 0, settings(threads=2)) == [[0, 0]]
    few = ClientTensors((np.zeros(5),), 5)
    assert split([few], 5, settings()) == [[0, 1, 2, 3, 4, 5]]
    # What is no sequence counts: client 0 has as much as all others.
    rows = (np.zeros([64, 2]), np.append([0, 32], np.arange(33, 65)))
    (cuts,) = split([ClientTensors(rows, 33)], 33, settings())
    assert cuts[:2] == [0, 1] and cuts[-1] == 33
    large = split([ClientTensors(rows, 33)], 33, settings(block_bytes=64))
    assert len(large) > 8


def test_blocks_are_the_same_for_all_threads_and_devices():
    sizes = np.random.default_rng(1).integers(0, 50, 100).tolist()
    (expected,) = split([leaf(sizes)], 100, settings())
    assert len(expected) == 9
    for threads, devices in [(2, 1), (3, 1), (8, 1), (64, 1), (2, 2), (1, 3)]:
        now = settings(threads=threads, devices=('/CPU:0',) * devices)
        shares = split([leaf(sizes)], 100, now)
        assert len(shares) == min(threads * devices, 8)
        assert [0, *(cut for share in shares for cut in share[1:])] == expected
        assert all(a[-1] == b[0] for a, b in zip(shares, shares[1:], strict=False))


def test_parts_are_views():
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    rows = np.array([0, 2, 3, 6])
    sequence = ClientSequences(((values, rows),), np.array([0, 1, 1, 3]))
    starts, part, part_rows = sequence.part(1, 3)
    assert starts.tolist() == [0, 0, 2]
    assert np.shares_memory(part, values) and part.tolist() == values[2:].tolist()
    assert part_rows.tolist() == [0, 1, 4]
    assert sequence.nbytes().tolist() == [16, 0, 32]


@pytest.mark.parametrize('dtype', [np.float32, np.int32, np.float64, np.bool_])
def test_tensors_of_arrays(dtype):
    array = (np.arange(40_000).reshape(200, 200) % 7).astype(dtype)
    made = aligned.empty(array.shape, dtype)
    made[:] = array
    read_only = array.copy()
    read_only.flags.writeable = False
    for given in (array, made, array[::2], array[3:], read_only, array[0]):
        np.testing.assert_array_equal(tensors.to_tensor(given).numpy(), given)


def test_an_aligned_array_is_not_copied():
    made = aligned.empty((200, 200), np.float32)
    made[:] = 1
    tensor = tensors.to_tensor(made)
    made[0, 0] = 5
    assert tensor[0, 0].numpy() == 5


@tff.tensorflow.computation(BATCHES)
def total(data):
    return data.reduce(0.0, lambda s, e: s + tf.reduce_sum(e['x']))


@tff.federated_computation(tff.FederatedType(BATCHES, tff.CLIENTS))
def totals(data):
    each = tff.federated_map(total, data)
    return each, tff.federated_sum(each), tff.federated_max(each)


def test_streamed_in_blocks_with_the_same_result():
    sizes = [3, 0, 1, 5, 2, 2]
    data = cohort(np.arange(26), sizes)
    expected = [
        np.arange(26).reshape(-1, 2)[a:b].sum()
        for a, b in zip(data.row_splits[:-1], data.row_splits[1:], strict=True)
    ]
    for arguments in ({'threads': 1}, {'threads': 4}, {'block_bytes': 8}):
        with runtime.use_compiled(**arguments):
            each, whole, most = totals(data)
        assert each == expected
        assert whole == sum(expected)
        assert most == max(expected)


@tff.tensorflow.computation(BATCHES)
def positive_total(data):
    def step(state, batch):
        check = tf.debugging.assert_non_negative(batch['x'], 'a pixel is negative')
        with tf.control_dependencies([check]):
            return state + tf.reduce_sum(batch['x'])

    return data.reduce(0.0, step)


@tff.federated_computation(tff.FederatedType(BATCHES, tff.CLIENTS))
def positive_totals(data):
    return tff.federated_sum(tff.federated_map(positive_total, data))


def test_error_names_client_and_step():
    rows = np.ones([20, 2])
    rows[13] = -1
    with (
        runtime.use_compiled(threads=2),
        pytest.raises(UserError, match=r'client 2, step 1: .*pixel is neg') as error,
    ):
        positive_totals(cohort(rows, [5, 5, 5, 5]))
    assert '\n' not in str(error.value)


def test_errors_of_the_server_are_one_line():
    @tff.tensorflow.computation(np.int32)
    def small(x):
        check = tf.debugging.assert_less(x, 3, 'x is too large')
        with tf.control_dependencies([check]):
            return x + 1

    with runtime.use_compiled():
        assert small(2) == 3
        with pytest.raises(UserError, match='the server: .*too large') as error:
            small(3)
    assert '\n' not in str(error.value)


def test_errors_are_of_the_class_that_tensorflow_has():
    rows = np.ones([4, 2])
    rows[2] = -1
    with (
        runtime.use_compiled(),
        pytest.raises(tf.errors.InvalidArgumentError) as caught,
    ):
        positive_totals(cohort(rows, [2, 2]))
    error = caught.value
    assert isinstance(error, UserError)
    assert str(error) == error.message and 'client 1, step 0' in error.message
    assert error.error_code == tf.errors.INVALID_ARGUMENT
    assert error.node_def is None and error.op is None
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error)


def test_an_error_of_a_dataset_that_is_an_argument_is_one_line():
    rows = tf.data.Dataset.range(3).map(
        lambda i: {'x': tf.fill([1, 2], tf.debugging.check_numerics(1 / i, 'row'))}
    )
    rows = rows.map(lambda e: {'x': tf.cast(e['x'], tf.float32)})
    with (
        runtime.use_compiled(),
        pytest.raises(tf.errors.InvalidArgumentError) as caught,
    ):
        totals([rows])
    assert isinstance(caught.value, UserError)
    assert 'dataset' in str(caught.value) and 'row' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_operations_without_a_kernel_are_named():
    @tff.tensorflow.computation(tff.TensorType(np.float32, [2]))
    def reduced(x):
        return tf.raw_ops.NcclAllReduce(
            input=x, reduction='sum', num_devices=1, shared_name='shared'
        )

    comp = tff.federated_computation(
        lambda x: tff.federated_map(reduced, x),
        tff.FederatedType(tff.TensorType(np.float32, [2]), tff.CLIENTS),
    )
    with (
        runtime.use_compiled(devices=['/CPU:0']),
        pytest.raises(UserError, match='NcclAllReduce.*use_stock') as error,
    ):
        comp([np.ones(2, np.float32)])
    assert '\n' not in str(error.value)
    assert 'computation ({float32[2]}@CLIENTS' in str(error.value)


@tff.tensorflow.computation(BATCHES)
def logarithms(data):
    return data.reduce(0.0, lambda s, e: s + tf.reduce_sum(tf.math.log(e['x'])))


def test_debug_mode_finds_the_first_step_that_is_not_finite():
    comp = tff.federated_computation(
        lambda data: tff.federated_sum(tff.federated_map(logarithms, data)),
        tff.FederatedType(BATCHES, tff.CLIENTS),
    )
    rows = np.ones([20, 2])
    rows[8] = 0
    data = cohort(rows, [5, 5, 5, 5])
    with runtime.use_compiled():
        assert comp(data) == -np.inf
    with (
        runtime.use_compiled(debug=True),
        pytest.raises(UserError, match='client 1, step 1: .*Inf'),
    ):
        comp(data)


def test_what_cannot_run_says_what_to_do():
    zero = building_blocks.Call(
        building_blocks.Intrinsic(
            'generic_zero', tff.FunctionType(None, tff.TensorType(np.int32))
        )
    )
    comp = computation_impl.ConcreteComputation.from_building_block(
        building_blocks.Lambda(None, None, zero)
    )
    with (
        runtime.use_compiled(),
        pytest.raises(UserError, match='intrinsic generic_zero.*use_stock') as error,
    ):
        comp()
    assert '\n' not in str(error.value)
    assert 'computation ( -> int32)' in str(error.value)


def test_settings_are_checked():
    with pytest.raises(UserError, match='threads is 0'):
        runtime.use_compiled(threads=0)


def trained(**settings):
    """Returns what two rounds of robust federated averaging come to, as arrays."""
    draw = np.random.default_rng(1)
    examples = collections.OrderedDict(
        x=draw.normal(size=(300, 7)).astype(np.float32),
        y=draw.integers(0, 3, 300).astype(np.int32),
    )
    data = Cohort(examples, np.append(0, np.cumsum([13, 2, 21, 1, 38] * 4)), 4)
    process = tff.learning.algorithms.build_weighted_fed_avg(
        models.mlp((7,), 3, (9,)).functional,
        tff.learning.optimizers.build_adam(0.1),
        tff.learning.optimizers.build_adam(0.1),
        model_aggregator=tff.learning.robust_aggregator(),
    )
    with runtime.use_compiled(**settings):
        state = process.initialize()
        for _ in range(2):
            state, metrics = process.next(state, data)
    return [np.asarray(leaf) for leaf in tf.nest.flatten([state, metrics])]


@pytest.mark.slow
def test_bits_are_the_same_for_all_threads():
    expected = trained(threads=1)
    for threads in (2, 8):
        for found, leaf in zip(trained(threads=threads), expected, strict=True):
            np.testing.assert_array_equal(found, leaf)


SCRIPT = """
import collections
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices('CPU')[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 3
)
import tensorflow_federated as tff
from tff_transfer import runtime
from tff_transfer.runtime import sessions, traced
import sys
sys.path.insert(0, sys.argv[1])
from test_compiled_blocks import cohort, totals, trained

used = []
sessions.pay = lambda *_: False  # Sessions have devices of their own.
original = traced.to_tensor
def to_tensor(array):
    tensor = original(array)
    used.append(tf.constant(0).device[-5:])
    return tensor
traced.to_tensor = to_tensor
data = cohort(np.arange(26), [3, 0, 1, 5, 2, 2])
with runtime.use_compiled(devices=['/CPU:0', '/CPU:1', '/CPU:2'], threads=1):
    each, whole, most = totals(data)
assert each == [15.0, 0.0, 13.0, 125.0, 78.0, 94.0], each
assert whole == sum(range(26)) and most == 125.0
assert set(used) == {'CPU:0', 'CPU:1', 'CPU:2'}, used
one = trained(threads=1, devices=['/CPU:0'])
for found, leaf in zip(trained(threads=1, devices=['/CPU:0', '/CPU:1']), one):
    np.testing.assert_array_equal(found, leaf)
"""


@pytest.mark.slow
def test_several_devices(request):
    command = [sys.executable, '-c', SCRIPT, str(request.path.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]

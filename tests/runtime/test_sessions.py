"""Functions that run as sessions in the caller's thread."""

import threading

import numpy as np
import pytest
import tensorflow as tf
import test_compiled_processes as processes
import walks

from tff_transfer import runtime
from tff_transfer.runtime import sessions
from tff_transfer.runtime.blocks import Settings

QUICK = ('weighted_fed_avg', 'weighted_fed_avg_of_variables')
STATE = tf.TensorSpec([2], tf.float32)


def traced(run, *specs):
    return tf.function(run, input_signature=specs).get_concrete_function()


def running_sums(values, scale):
    """A list of the sums of the first rows, and which number of the last is larger."""
    sums = tf.TensorArray(tf.float32, tf.shape(values)[0], element_shape=[2])
    _, last, sums = tf.while_loop(
        lambda row, *_: row < tf.shape(values)[0],
        lambda row, total, sums: (
            row + 1,
            total + scale * values[row],
            sums.write(row, total + scale * values[row]),
        ),
        (0, tf.zeros([2]), sums),
    )
    larger = tf.cond(last[0] > last[1], lambda: tf.constant('first'), lambda: 'second')
    return [sums.flow, larger, last]


ROWS = tf.TensorSpec([None, 2], tf.float32)
SCALE = tf.TensorSpec([], tf.float32)


def test_a_session_gives_what_the_function_does():
    call = sessions.InCallersThread(traced(running_sums, ROWS, SCALE), [STATE])
    rows = np.array([[1, 2], [3, 5], [-1, 4]], np.float32)
    sums, larger, last = call([rows, np.array(2, np.float32)])
    np.testing.assert_array_equal(sums, [[2, 4], [8, 14], [6, 22]])
    assert (larger, last.tolist()) == (b'second', [6, 22])
    sums, larger, _ = call([rows[:0], np.array(2, np.float32)])
    assert (sums.shape, larger) == ((0, 2), b'second')


def test_denormal_numbers_are_0_as_in_functions_and_only_there():
    function = traced(lambda x: [x * 0.5], tf.TensorSpec([None], tf.float32))
    least = np.full(9, np.finfo(np.float32).tiny, np.float32)
    np.testing.assert_array_equal(function(tf.constant(least))[0], np.zeros(9))
    call = sessions.InCallersThread(function, [])
    np.testing.assert_array_equal(call([least])[0], np.zeros(9))
    assert (least * np.float32(0.5) > 0).all()


def test_its_operations_run_in_the_thread_that_calls_it():
    seen = []

    def note(value):
        seen.append(threading.get_ident())
        return value

    def run(value):
        return [tf.numpy_function(note, [value], tf.float32) for _ in range(3)]

    call = sessions.InCallersThread(traced(run, tf.TensorSpec([], tf.float32)), [])
    call([np.array(1, np.float32)])
    assert seen == [threading.get_ident()] * 3


def test_functions_that_a_function_calls_come_along():
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = inner(x)
        return [tape.gradient(y, x)]

    inner = tf.function(lambda x: tf.function(lambda y: y**3)(x) * 2)
    call = sessions.InCallersThread(traced(gradient, SCALE), [])
    assert call([np.array(2, np.float32)]) == [24]


@pytest.mark.parametrize(
    ('elements', 'run', 'spec'),
    [
        ([tf.TensorSpec([None])], lambda x: [x], SCALE),
        ([], lambda x: [tf.data.Dataset.range(3)._variant_tensor], SCALE),
        ([], lambda x: [tf.constant(1)], tf.TensorSpec([], tf.variant)),
    ],
)
def test_what_has_no_arrays_is_no_session(elements, run, spec):
    assert not sessions.takes(traced(run, spec), elements)
    assert sessions.takes(traced(running_sums, ROWS, SCALE), [STATE])


def test_servers_with_loops_or_large_constants_are_not_brief():
    inner = tf.function(
        lambda x: tf.while_loop(lambda y: y < 9, lambda y: [2 * y], [x])
    )
    assert not sessions.brief(traced(lambda x: inner(x), SCALE))
    large = np.arange(sessions.SMALL // 4, dtype=np.float32)
    assert not sessions.brief(traced(lambda x: [x * large], SCALE))
    assert sessions.brief(traced(lambda x: [x * large[:-200]], SCALE))


def test_small_is_what_takes_128_kib_whatever_its_values():
    half = tf.TensorSpec([2**14], tf.float32)
    assert sessions.small([half, half])
    assert not sessions.small([half, half, SCALE])
    assert not sessions.small([ROWS])


def test_an_error_is_tensorflows():
    def run(value):
        with tf.control_dependencies([tf.debugging.assert_positive(value)]):
            return [tf.identity(value)]

    call = sessions.InCallersThread(traced(run, SCALE), [])
    assert call([np.array(2, np.float32)]) == [2]
    with pytest.raises(tf.errors.InvalidArgumentError):
        call([np.array(-1, np.float32)])


def _marks(name, lockstep):
    if name in QUICK:
        return []
    # In lockstep the quick ones stand for the others.
    of_each_kind = () if lockstep else ('mime_lite', 'fed_eval', 'k_means')
    return [pytest.mark.slow, *walks.marks(name, of_each_kind)]


@pytest.mark.parametrize(
    ('name', 'lockstep'),
    [
        pytest.param(name, lockstep, marks=_marks(name, lockstep))
        for name in sorted(processes.CASES)
        for lockstep in (False, True)
    ],
)
def test_rounds_are_those_of_plain_functions(name, lockstep, monkeypatch):
    build, model, data = processes.CASES[name]
    calls, call = [], sessions.InCallersThread.__call__

    def counted(session, values):
        calls.append(session)
        return call(session, values)

    monkeypatch.setattr(sessions.InCallersThread, '__call__', counted)

    def rounds(clients, server):
        calls.clear()
        monkeypatch.setattr(sessions, 'pay', lambda *_: clients)
        monkeypatch.setattr(sessions, 'small', lambda specs: server)
        process = build(model())
        with runtime.use_compiled(threads=2, lockstep=lockstep):
            found = processes.run(process, data, rounds=2)
        assert bool(calls) == (clients or server)
        return found

    plain = rounds(False, False)
    processes.assert_same(rounds(False, True), plain, 0)
    found = rounds(True, True)
    processes.assert_same(found, rounds(True, False), 0)
    processes.assert_same(found, plain, 1e-6)


def test_what_pays_hangs_on_sizes_and_the_threads_of_operations(monkeypatch):
    def of(count, processors, together=0, little=False, **settings):
        monkeypatch.setattr(sessions, 'operation_threads', lambda: processors)
        how = {'threads': 3, 'block_bytes': 1, 'devices': ('CPU:0',), 'debug': False}
        settings = Settings(**how | {'compute_dtype': None} | settings)
        return sessions.pay(count, together, little, settings)

    assert of(8, 2) and of(8, 2, threads=1) and of(32, 8)
    assert not of(7, 2) and not of(31, 8) and not of(1000, 9)
    assert of(2, 16, together=2) and of(2, 16, little=True)
    assert not of(100, 2, debug=True)

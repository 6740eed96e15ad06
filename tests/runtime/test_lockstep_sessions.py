"""Functions that run as sessions in the caller's thread."""

import threading

import numpy as np
import pytest
import tensorflow as tf
import test_compiled_processes as processes

from tff_transfer import runtime
from tff_transfer.runtime.lockstep import sessions

STATE = tf.TensorSpec([2], tf.float32)


def traced(run, *specs):
    return tf.function(run, input_signature=specs).get_concrete_function()


def running_sums(values, scale):
    """A list of the sums of the first rows, and the last one's rank as a string."""
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
    sums, larger, last = call([rows, np.float32(2)])
    np.testing.assert_array_equal(sums, [[2, 4], [8, 14], [6, 22]])
    assert (larger, last.tolist()) == (b'second', [6, 22])
    sums, larger, _ = call([rows[:0], np.float32(2)])
    assert (sums.shape, larger) == ((0, 2), b'second')


def test_its_operations_run_in_the_thread_that_calls_it():
    seen = []

    def note(value):
        seen.append(threading.get_ident())
        return value

    def run(value):
        return [tf.numpy_function(note, [value], tf.float32) for _ in range(3)]

    call = sessions.InCallersThread(traced(run, tf.TensorSpec([], tf.float32)), [])
    call([np.float32(1)])
    assert seen == [threading.get_ident()] * 3


def test_functions_that_a_function_calls_come_along():
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = inner(x)
        return [tape.gradient(y, x)]

    inner = tf.function(lambda x: tf.function(lambda y: y**3)(x) * 2)
    call = sessions.InCallersThread(traced(gradient, SCALE), [])
    assert call([np.float32(2)]) == [24]


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


def test_an_error_is_tensorflows():
    def run(value):
        with tf.control_dependencies([tf.debugging.assert_positive(value)]):
            return [tf.identity(value)]

    call = sessions.InCallersThread(traced(run, SCALE), [])
    assert call([np.float32(2)]) == [2]
    with pytest.raises(tf.errors.InvalidArgumentError):
        call([np.float32(-1)])


def test_rounds_have_the_bits_of_plain_functions(monkeypatch):
    build, model, _ = processes.CASES['weighted_fed_avg']
    process = build(model())
    calls, call = [], sessions.InCallersThread.__call__

    def counted(session, arrays):
        calls.append(session)
        return call(session, arrays)

    monkeypatch.setattr(sessions.InCallersThread, '__call__', counted)

    def rounds():
        with runtime.use_compiled(threads=2):
            return processes.run(process, many, rounds=2)

    def many(round_number):
        return processes.cohort(round_number, tuple(range(80)))

    found = rounds()
    assert calls
    monkeypatch.setattr(sessions, 'takes', lambda *_: False)
    processes.assert_same(found, rounds(), 0)

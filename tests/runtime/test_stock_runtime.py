import asyncio
import collections
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import runtime
from tff_transfer.data.cohorts import Cohort
from tff_transfer.errors import UserError
from tff_transfer.runtime import stock


@tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS))
def sum_of(values):
    return tff.federated_sum(values)


@tff.tensorflow.computation(np.int32)
def count_slowly(steps):
    return tf.while_loop(lambda i: i < steps, lambda i: [i + 1], [0])[0]


def is_running(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def ends(pid, seconds=10.0):
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


def a_cohort():
    rows = collections.OrderedDict(x=np.arange(6, dtype=np.int32))
    return Cohort(rows, np.array([0, 4, 4, 6]), batch_size=4)


def test_computes_and_ends_with_the_block():
    before = tff.framework.get_context_stack().current
    with runtime.use_stock() as context:
        assert sum_of([1, 2, 3]) == 6
        pid = context.executor_factory.pid
        assert is_running(pid)
    assert ends(pid)
    assert tff.framework.get_context_stack().current is before
    with pytest.raises(UserError, match='use_stock'):
        tff.framework.set_default_context(context)
        try:
            sum_of([1])
        finally:
            tff.framework.set_default_context(before)


def test_no_thread_asks_for_the_state_of_the_connection(monkeypatch):
    # One that did would end the process that forks beside it, now and then.
    running, run = [], threading.Thread.run

    def counted(thread):
        running.append(thread)
        run(thread)
        running.remove(thread)

    monkeypatch.setattr(threading.Thread, 'run', counted)
    with runtime.use_stock():
        assert sum_of([1, 2, 3]) == 6
        deadline = time.monotonic() + 10
        # The thread that waits for the worker to start looks at it five times a second.
        while len(running) > 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        # That of the context's event loop.
        assert len(running) == 1


def test_running_event_loop_is_no_obstacle():
    async def main():
        return sum_of([1, 2])

    with runtime.use_stock():
        assert asyncio.run(main()) == 3


def test_cohort_is_client_data():
    row_type = tff.SequenceType(
        collections.OrderedDict(x=tff.TensorType(np.int32, [None]))
    )

    @tff.tensorflow.computation(row_type)
    def total(batches):
        return batches.reduce(0, lambda s, b: s + tf.reduce_sum(b['x']))

    @tff.federated_computation(tff.FederatedType(row_type, tff.CLIENTS))
    def totals(data):
        return tff.federated_map(total, data)

    with runtime.use_stock():
        assert [int(t) for t in totals(a_cohort())] == [6, 0, 9]


def test_error_inside_a_computation_is_one_line_of_tensorflows_class():
    @tff.tensorflow.computation(np.int32)
    def small(x):
        check = tf.debugging.assert_less(x, 3, 'x is too large')
        with tf.control_dependencies([check]):
            return x + 1

    with runtime.use_stock():
        assert small(2) == 3
        # The worker gives one code for whatever happened.
        with pytest.raises(tf.errors.InternalError, match='x is too large') as error:
            small(3)
        assert small(1) == 2
    assert isinstance(error.value, UserError)
    assert '\n' not in str(error.value)


def test_worker_that_dies_is_one_line_and_the_next_call_starts_another():
    with runtime.use_stock() as context:
        assert sum_of([1, 2]) == 3
        old = context.executor_factory.pid
        timer = threading.Timer(1.0, os.kill, (old, signal.SIGKILL))
        timer.start()
        with pytest.raises(UserError, match=r'was lost \(signal 9\)') as error:
            count_slowly(2**31 - 1)
        timer.join()
        assert '\n' not in str(error.value)
        assert sum_of([2, 3]) == 5
        assert context.executor_factory.pid != old


@pytest.mark.parametrize(
    ('script', 'message'),
    [
        (
            'echo no memory left >&2; exit 7',
            r'exit code 7\), its last words: no memory',
        ),
        ('exec sleep 60', 'did not start in 0.5 s'),
    ],
)
def test_worker_that_does_not_start_is_one_line(tmp_path, monkeypatch, script, message):
    fake = tmp_path / 'worker'
    fake.write_text(f'#!/bin/sh\n{script}\n')
    fake.chmod(0o755)
    monkeypatch.setattr(stock, '_WORKER', fake)
    started = time.monotonic()
    with (
        runtime.use_stock(deadline_s=0.5),
        pytest.raises(UserError, match=message) as error,
    ):
        sum_of([1])
    assert time.monotonic() - started < 5
    assert '\n' not in str(error.value)


def test_missing_worker_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(stock, '_WORKER', tmp_path / 'none')
    with runtime.use_stock(), pytest.raises(UserError, match='none is missing'):
        sum_of([1])


SCRIPT = """
import os, signal, sys, time
import numpy as np
import tensorflow_federated as tff
from tff_transfer import runtime

@tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS))
def sum_of(values):
    return tff.federated_sum(values)

runtime.use_stock()
assert sum_of([1, 2]) == 3
context = tff.framework.get_context_stack().current
print(context.executor_factory.pid, flush=True)
way = sys.argv[1]
if way == 'exception':
    raise ValueError('as wanted')
if way.startswith('SIG'):
    os.kill(os.getpid(), getattr(signal, way))
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ('way', 'code'),
    [
        ('exception', 1),
        ('SIGKILL', -9),
        pytest.param('exit', 0, marks=pytest.mark.walk),
        pytest.param('SIGTERM', -15, marks=pytest.mark.walk),
        pytest.param('SIGINT', -2, marks=pytest.mark.walk),
    ],
)
def test_worker_ends_with_its_parent(way, code):
    command = [sys.executable, '-c', SCRIPT, way]
    # As in `python ... | cat`: run() returns only when the pipe is closed by all.
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == code, ended.stderr
    assert ends(int(ended.stdout))

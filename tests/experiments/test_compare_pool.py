"""Processes that do jobs: which fail, are killed, and end with the grid."""

import os
import sys
import time

import pytest

from experiments.compare import pool

# Answers what it is told to, or dies.
WORKER = """
import json, os, sys, time
for line in sys.stdin:
    job = json.loads(line)
    if 'signal' in job:
        os.kill(os.getpid(), job['signal'])
    if 'exit' in job:
        print('something', file=sys.stderr)
        print('the last words', file=sys.stderr, flush=True)
        os._exit(job['exit'])
    if 'pid' in job:
        open(job['pid'], 'w').write(str(os.getpid()))
        time.sleep(60)
    print(os.environ[job['env']] if 'env' in job else job['say'], flush=True)
"""
COMMAND = (sys.executable, '-c', WORKER)


def test_what_fails_is_not_in_the_way_of_others():
    jobs = [{'say': 'a'}, {'signal': 9}, {'say': ''}, {'exit': 3}, {'say': 'b'}]
    with pool.opened(2, COMMAND) as workers:
        found = workers.do(jobs, 'jobs')
        assert workers.do([{'say': 'more'}], 'jobs') == ['more']
    assert [found[0], found[2], found[4]] == ['a', '', 'b']
    assert 'ended by SIGKILL' in found[1]
    assert found[3] == 'its process ended with code 3: the last words'


def test_a_process_is_replaced_after_some_jobs(monkeypatch):
    monkeypatch.setattr(pool, '_JOBS', 2)
    made, start = [], pool.Pool._start
    monkeypatch.setattr(pool.Pool, '_start', lambda self: made.append(1) or start(self))
    with pool.opened(1, COMMAND) as workers:
        assert workers.do([{'say': str(i)} for i in range(5)], '') == [*'01234']
    assert len(made) == 3


@pytest.mark.parametrize('processes', [1, 2])
def test_threads_are_divided(processes):
    cores = len(os.sched_getaffinity(0))
    names = ('OMP_NUM_THREADS', 'TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS')
    with pool.opened(processes, COMMAND) as workers:
        found = workers.do([{'env': name} for name in names], '')
    assert found == [str(max(cores // processes, 1))] * 3


def test_all_processes_end_with_the_grid(tmp_path):
    path = tmp_path / 'pid'

    class Interrupted(BaseException):
        pass

    def interrupt(*_, **__):
        while not (path.exists() and path.read_text()):
            time.sleep(0.01)
        raise Interrupted

    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(Interrupted),
        pool.opened(1, COMMAND) as workers,
    ):
        patch.setattr(pool.progress, 'bar', interrupt)
        workers.do([{'pid': str(path)}, {'say': 'never'}], '')
    with pytest.raises(ProcessLookupError):
        os.kill(int(path.read_text()), 0)

"""Processes that do the jobs of a grid, each one after another."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any

from tff_transfer import progress

# TensorFlow keeps something of each run: a process is replaced after so many.
_JOBS = 20
THREADS = (
    *('TF_NUM_INTRAOP_THREADS', 'TF_NUM_INTEROP_THREADS'),
    *('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'),
)
WORKER = (sys.executable, '-m', 'experiments.compare.worker')


def threads_each(processes: int) -> int:
    """Returns how many threads each of some processes has of this one's."""
    return max(len(os.sched_getaffinity(0)) // processes, 1)


@dataclasses.dataclass(eq=False)
class _Worker:
    """A process, what it says of errors, and how many jobs it has done."""

    process: subprocess.Popen
    said: Any
    done: int = 0

    def ask(self, job: dict[str, Any]) -> str:
        """Does a job: returns what went wrong, empty if nothing did."""
        with contextlib.suppress(OSError):  # It has died: there is no answer.
            self.process.stdin.write(json.dumps(job) + '\n')
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        self.done += 1
        if answer.endswith('\n'):
            return answer.strip()
        return self._how_it_ended()

    def _how_it_ended(self) -> str:
        code = self.process.wait()
        if code < 0:
            name = signal.Signals(-code).name
            return f'its process was ended by {name}; the same command goes on with it'
        self.said.seek(0)
        lines = [line for line in self.said.read().splitlines() if line.strip()]
        return f'its process ended with code {code}: {" ".join(lines[-1:])}'

    def end(self) -> None:
        """Ends the process, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.said.close()


class Pool:
    """Processes among which this one's threads are divided.

    Args:
      processes: How many.
      command: What each of them is.
    """

    def __init__(self, processes: int, command: Sequence[str] = WORKER):
        self._processes, self._command = processes, command
        self._executor = futures.ThreadPoolExecutor(processes)
        self._workers, self._idle = [], []
        self._lock, self._closed = threading.Lock(), False

    def do(self, jobs: Sequence[dict[str, Any]], said: str) -> list[str]:
        """Does jobs, and shows how far it is.

        Args:
          jobs: What workers take.
          said: What they are called.

        Returns:
          What went wrong with each, empty if nothing did.
        """
        waited = [self._executor.submit(self._one, job) for job in jobs]
        ended = futures.as_completed(waited)
        for _ in progress.bar(ended, total=len(jobs), desc=said, unit='run'):
            pass
        return [each.result() for each in waited]

    def _one(self, job: dict[str, Any]) -> str:
        worker = self._idle.pop() if self._idle else self._start()
        wrong = worker.ask(job)
        if worker.process.poll() is None and worker.done < _JOBS:
            self._idle.append(worker)
        else:
            worker.end()
            self._workers.remove(worker)
        return wrong

    def _start(self) -> _Worker:
        each = str(threads_each(self._processes))
        with self._lock:
            if self._closed:
                raise futures.CancelledError
            said = tempfile.TemporaryFile('w+', errors='replace')  # noqa: SIM115
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env={**os.environ, **dict.fromkeys(THREADS, each)},
                start_new_session=True,  # A terminal's Ctrl-C is for the parent.
            )
            worker = _Worker(process, said)
            self._workers.append(worker)
        return worker

    def close(self) -> None:
        """Ends all processes."""
        with self._lock:
            self._closed = True
        self._executor.shutdown(wait=False, cancel_futures=True)
        for worker in [*self._workers]:  # Threads remove those that ended.
            worker.process.kill()
        self._executor.shutdown()
        for worker in self._workers:
            worker.end()


@contextlib.contextmanager
def opened(processes: int, command: Sequence[str] = WORKER) -> Iterator[Pool]:
    """Gives a pool, all of whose processes end with the block, however it ends."""
    pool = Pool(processes, command)
    try:
        yield pool
    finally:
        pool.close()

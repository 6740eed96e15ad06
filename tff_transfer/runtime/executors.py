"""What runs blocks of clients: here, threads of this process."""

import concurrent.futures
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import tensorflow as tf

from tff_transfer.runtime.blocks import Blocks, Leaf, Settings
from tff_transfer.runtime.phases import Phases
from tff_transfer.runtime.turns import Given, Turn


class Executor(Protocol):
    """Runs blocks of clients; in which calls and where changes no bit."""

    def run(
        self, phases: Phases, turn: Turn, leaves: Sequence[Leaf], blocks: Blocks
    ) -> Iterator[Given]:
        """Yields what clients give, in the order of the blocks.

        Args:
          phases: The compiled phases.
          turn: What is the same for all clients.
          leaves: The clients' values.
          blocks: Which of them are summed together.

        Raises:
          tf.errors.OpError: A client failed.
          UserError: They cannot run.
        """


class Threads:
    """Runs them in threads of this process."""

    def __init__(self, settings: Settings):
        """Keeps how programs run."""
        self._settings = settings

    def run(
        self, phases: Phases, turn: Turn, leaves: Sequence[Leaf], blocks: Blocks
    ) -> Iterator[Given]:
        """Yields what clients give (`Executor.run`), a few calls at a time."""
        settings = self._settings
        phases.optimize(turn, leaves)
        calls = blocks.in_calls(settings.threads * len(settings.devices))

        def run_call(cuts):
            return phases.run_clients(turn, leaves, cuts)

        yield from _in_order(run_call, calls, settings)


def _in_order(run: Callable, calls: list, settings: Settings) -> Iterator:
    """Yields `run(call)` for all calls, in order, with a few under way at a time.

    One device's calls run under that device's scope.
    """
    placed = list(zip(calls, itertools.cycle(settings.devices)))

    def on_device(call, device):
        with tf.device(device):
            return run(call)

    workers = min(settings.threads * len(settings.devices), len(calls))
    if workers == 1 or settings.debug:
        yield from itertools.starmap(on_device, placed)
        return
    # If all run at a time, the last one in this thread, which would only wait.
    here = placed.pop() if len(placed) == workers else None
    pool = _pool(workers)
    waiting = []
    try:
        for call, device in placed:
            waiting.append(pool.submit(on_device, call, device))
            if len(waiting) > workers:
                yield waiting.pop(0).result()
        last = [on_device(*here)] if here else []
        while waiting:
            yield waiting.pop(0).result()
        yield from last
    finally:
        concurrent.futures.wait([f for f in waiting if not f.cancel()])


@functools.cache
def _pool(workers: int) -> concurrent.futures.ThreadPoolExecutor:
    # Kept: to start threads for each round takes about as long as to call TensorFlow.
    return concurrent.futures.ThreadPoolExecutor(workers, 'shares of clients')

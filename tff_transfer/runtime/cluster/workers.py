"""The actors of a cluster: one a GPU, or one a node with all its free processors."""

import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import ray
from ray import exceptions
from ray._private import state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tff_transfer.errors import UserError, one_line
from tff_transfer.runtime.cluster import files, same

# Seconds within which the first actor of a cluster must have started.
_STARTS_WITHIN = 120.0
# Seconds between two looks at which nodes there are.
_BETWEEN = 1.0
# How often an actor of one node may fail to start before the node is left out.
_ATTEMPTS = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Worker:
    """An actor.

    Attributes:
      node: The node's identifier.
      handle: Ray's handle of it.
      threads: How many calls it runs at a time.
    """

    node: str
    handle: ray.actor.ActorHandle
    threads: int
    _asked: dict[tuple[str, str], bool] = dataclasses.field(default_factory=dict)

    def reaches(self, mapped: Sequence[np.memmap]) -> bool:
        """Returns whether the actor can read files itself, as they are here."""
        return all(self._has(str(array.filename)) for array in mapped)

    def _has(self, path: str) -> bool:
        mark = files.mark(path)
        if mark is None:
            return False
        if (path, mark) not in self._asked:
            try:
                found = ray.get(self.handle.has_file.remote(path, mark))
            except exceptions.RayError:  # It is lost, as its next call tells.
                return False
            self._asked[path, mark] = found
        return self._asked[path, mark]


class Workers:
    """The actors that there are; nodes that join get theirs."""

    def __init__(self, kind: type, *arguments: Any, one_processor: bool = False):
        """Begins with none.

        Args:
          kind: What an actor is; its `facts` are compared with those here.
          arguments: What it is made with.
          one_processor: Whether each takes one processor, not a GPU or a node's all,
            and one call at a time.
        """
        self._kind, self._arguments = kind, arguments
        self._one_processor = one_processor
        self.ready: list[Worker] = []
        self._starting: dict[ray.ObjectRef, Worker] = {}
        self._failed: dict[str, int] = {}
        self._looked = -_BETWEEN

    @property
    def threads(self) -> int:
        """How many calls run at a time on all of them."""
        return sum(worker.threads for worker in self.ready)

    def start(self) -> None:
        """Starts an actor on each node, and waits for all of these.

        Raises:
          UserError: There is no node that can run any, or one differs from here.
        """
        self._look()
        refs = list(self._starting)
        if refs:
            ray.wait(refs, num_returns=len(refs), timeout=_STARTS_WITHIN)
        problems = list(self._settle())
        if problems:
            self.close()
            raise UserError(problems[0])
        if not self.ready:
            self.wait()

    def refresh(self) -> None:
        """Gives new nodes their actors, and takes up those that have started."""
        if time.monotonic() - self._looked >= _BETWEEN:
            self._look()
        for problem in self._settle():
            logging.warning('%s; it is left out', problem)

    def wait(self) -> None:
        """Waits until there is an actor.

        Raises:
          UserError: There is no node left, or none starts in time.
        """
        until = time.monotonic() + _STARTS_WITHIN
        problems = []
        while not self.ready:
            if not _nodes():
                raise UserError(
                    'the cluster has no node with processors left: start one'
                    ' (docs/cluster.md), and the same command goes on'
                )
            if time.monotonic() > until:
                why = problems[-1] if problems else 'all their processors are taken'
                raise UserError(
                    f'no node of the cluster could start an actor in'
                    f' {_STARTS_WITHIN:.0f} seconds: {why}'
                )
            self._look()
            if self._starting:
                ray.wait(list(self._starting), timeout=_BETWEEN)
            else:
                time.sleep(_BETWEEN / 5)
            problems += self._settle()

    def lose(self, worker: Worker) -> None:
        """Gives up an actor that does not answer; its node may get another one."""
        if worker in self.ready:
            self.ready.remove(worker)
            logging.warning('Node %s lost what ran on it.', worker.node[:8])
            ray.kill(worker.handle)

    def close(self) -> None:
        """Ends all actors."""
        for worker in [*self.ready, *self._starting.values()]:
            ray.kill(worker.handle)
        self.ready, self._starting = [], {}

    def _look(self) -> None:
        """Starts actors on nodes that have none."""
        self._looked = time.monotonic()
        # What these take is not yet taken from what is free.
        taken = {worker.node for worker in self._starting.values()}
        free = state.available_resources_per_node()
        for node in _nodes():
            if node in taken or self._failed.get(node, 0) >= _ATTEMPTS:
                continue
            for worker in self._start_on(node, free.get(node, {})):
                self._starting[worker.handle.facts.remote()] = worker

    def _start_on(self, node: str, free: dict[str, float]) -> Iterator[Worker]:
        """Starts actors with a node's free resources: one a GPU, or else one."""
        processors, gpus = int(free.get('CPU', 0)), int(free.get('GPU', 0))
        gpus = 0 if self._one_processor else gpus
        count = min(processors, gpus or (processors if self._one_processor else 1))
        for _ in range(count):
            each = processors // count
            handle = (
                ray.remote(self._kind)
                .options(
                    num_cpus=each,
                    num_gpus=1 if gpus else 0,
                    # One more, for questions in between.
                    max_concurrency=each + 1,
                    max_restarts=0,
                    scheduling_strategy=NodeAffinitySchedulingStrategy(
                        node, soft=False
                    ),
                )
                .remote(*self._arguments)
            )
            # A GPU takes one call at a time, as in the compiled runtime.
            yield Worker(node, handle, 1 if gpus else each)

    def _settle(self) -> Iterator[str]:
        """Takes up actors that have started; yields what is wrong with others."""
        done = []
        if self._starting:
            refs = list(self._starting)
            done, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        for ref in done:
            worker = self._starting.pop(ref)
            where = f'node {worker.node[:8]}'
            try:
                differences = same.differences(ray.get(ref))
            except exceptions.RayError as error:
                self._failed[worker.node] = self._failed.get(worker.node, 0) + 1
                yield f'{where} cannot run clients: {cause(error)}'
                continue
            if differences:
                self._failed[worker.node] = _ATTEMPTS
                ray.kill(worker.handle)
                yield f'{where} would give other results: {"; ".join(differences)}'
                continue
            self._failed.pop(worker.node, None)
            self.ready.append(worker)


def cause(error: exceptions.RayError) -> str:
    """Returns what went wrong in one line."""
    return one_line(getattr(error, 'cause', None) or error)


def _nodes() -> list[str]:
    """Returns the nodes that can run clients."""
    return [
        node['NodeID']
        for node in ray.nodes()
        if node['Alive'] and node['Resources'].get('CPU', 0) >= 1
    ]

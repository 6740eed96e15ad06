"""The calls of one turn: shares go to actors, and again where an actor is lost."""

import collections
import dataclasses
from collections.abc import Iterator, Sequence

import ray
from ray import exceptions

from tff_transfer.errors import UserError
from tff_transfer.runtime.blocks import Leaf
from tff_transfer.runtime.cluster import scheduling
from tff_transfer.runtime.cluster.messages import (
    Answer,
    Broadcast,
    NodeGoneError,
    Work,
)
from tff_transfer.runtime.cluster.scheduling import Share
from tff_transfer.runtime.cluster.workers import Worker, Workers, cause

# What is raised when an actor, its node, or what these held, is gone.
_LOST = (
    exceptions.RayActorError,
    exceptions.ObjectLostError,
    exceptions.NodeDiedError,
    exceptions.WorkerCrashedError,
    NodeGoneError,
)
# How many actors may end over the same clients until these are blamed.
_ATTEMPTS = 5


@dataclasses.dataclass(frozen=True)
class Shared:
    """What the calls of a turn have in common: numbers, and references of values.

    Attributes:
      program: The number of the computation.
      computation: Its `Computation`, which an actor fetches once.
      turn: The number of the turn.
      broadcast: Its `Broadcast`, which then goes with each call, or the reference of
        that.
      nbytes: How many bytes that takes.
    """

    program: int
    computation: ray.ObjectRef
    turn: int
    broadcast: Broadcast | ray.ObjectRef
    nbytes: int


class Calls:
    """The calls of one turn; as an iterator, their answers in the shares' order."""

    def __init__(
        self,
        workers: Workers,
        shared: Shared,
        leaves: Sequence[Leaf],
        shares: Sequence[Share],
        moved: collections.Counter,
    ):
        """Begins with none.

        Args:
          workers: The actors.
          shared: What the calls have in common.
          leaves: The clients' values.
          shares: The blocks of each call.
          moved: Where bytes are counted (`Actors.moved`).
        """
        self._workers, self._shared = workers, shared
        self._leaves, self._shares, self._moved = leaves, shares, moved
        self._blocks = sum(len(share.cuts) - 1 for share in shares)
        self._waiting = {number: share.size for number, share in enumerate(shares)}
        self._running: dict[ray.ObjectRef, tuple[int, Worker]] = {}
        self._answers: dict[int, Answer] = {}
        self._lost: collections.Counter[int] = collections.Counter()
        self._reached: set[Worker] = set()

    def __iter__(self) -> Iterator[Answer]:
        """Yields the answers.

        Raises:
          UserError: No node is left, or clients end every actor that runs them.
        """
        for number in range(len(self._shares)):
            while number not in self._answers:
                self._start()
                self._collect()
            yield self._answers.pop(number)

    def _start(self) -> None:
        """Starts what waits where there is room."""
        if not self._waiting:
            return
        self._workers.refresh()
        if not self._workers.ready and not self._running:
            self._workers.wait()
        busy = collections.Counter(worker for _, worker in self._running.values())
        free = {w: w.threads - busy[w] for w in self._workers.ready}
        for number, worker in scheduling.assign(self._waiting, free):
            del self._waiting[number]
            share = self._shares[number]
            work = Work.of(self._leaves, share, self._blocks, worker.reaches)
            shared = self._shared
            ref = worker.handle.run.remote(
                shared.program,
                # In a list: it is fetched when it is wanted.
                [shared.computation],
                shared.turn,
                shared.broadcast,
                work,
            )
            self._running[ref] = number, worker
            self._moved['clients'] += work.nbytes
            inside = isinstance(shared.broadcast, Broadcast)
            if inside or worker not in self._reached:
                self._reached.add(worker)
                self._moved['broadcast'] += shared.nbytes

    def _collect(self) -> None:
        """Waits for an answer, or for the loss of an actor."""
        done, _ = ray.wait(list(self._running), num_returns=1)
        for ref in done:
            number, worker = self._running.pop(ref)
            try:
                answer = ray.get(ref)
            except _LOST as error:
                self._workers.lose(worker)
                self._lost[number] += 1
                if self._lost[number] >= _ATTEMPTS:
                    raise UserError(
                        f'{_ATTEMPTS} actors ended while they ran the same clients:'
                        f' {cause(error)}; if memory was short, give a smaller'
                        ' block_bytes or larger nodes'
                    ) from error
                self._waiting[number] = self._shares[number].size
                continue
            self._answers[number] = answer
            self._moved['answers'] += answer.nbytes

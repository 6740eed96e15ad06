"""What runs on the nodes of a cluster: a process with compiled phases."""

import collections
import dataclasses
import threading
from typing import Any

import ray
import tensorflow as tf
from ray import exceptions

from tff_transfer.errors import UserError
from tff_transfer.runtime import merging
from tff_transfer.runtime.cluster import files, same
from tff_transfer.runtime.cluster.messages import (
    Answer,
    Broadcast,
    Computation,
    NodeGoneError,
    Work,
)
from tff_transfer.runtime.phases import Phases
from tff_transfer.runtime.turns import Given, Turn

# As many turns as may run at a time: two threads of the driver, say.
_TURNS = 4


class Actor:
    """Runs blocks of clients, several calls at a time."""

    def __init__(self, operation_threads: int):
        """Sets TensorFlow up, before anything is run.

        Args:
          operation_threads: How many threads an operation may have: as many as the
            driver's, since the order in which they sum may change bits.
        """
        tf.config.threading.set_intra_op_parallelism_threads(operation_threads)
        # Ray shows an actor the GPU that it has, and no other.
        gpus = tf.config.list_physical_devices('GPU')
        self._device = '/GPU:0' if gpus else '/CPU:0'
        self._phases: dict[int, Phases] = {}
        self._turns: collections.OrderedDict[int, Turn] = collections.OrderedDict()
        self._lock = threading.Lock()

    def facts(self) -> dict[str, str]:
        """Returns what must be the same here as at the driver."""
        return same.facts()

    def has_file(self, path: str, mark: str) -> bool:
        """Returns whether the file of this path is here what it is at the driver."""
        return files.mark(path) == mark

    def run(
        self,
        program: int,
        computation: list[Any],
        number: int,
        broadcast: Broadcast,
        work: Work,
    ) -> Answer:
        """Runs blocks of clients.

        Args:
          program: The number of the computation.
          computation: The reference of its `Computation`, which is fetched once.
          number: The number of the turn.
          broadcast: What it has.
          work: The blocks.

        Returns:
          What they gave, or what was raised.

        Raises:
          NodeGoneError: The computation cannot be fetched from this node any more.
        """
        try:
            phases = self._program(program, *computation)
            turn = self._turn(number, broadcast)
            phases.optimize(turn, work.leaves)
            with tf.device(self._device):
                given = phases.run_clients(turn, work.leaves, work.cuts, work.before)
            answer = _merged(phases, turn, given, work)
            return dataclasses.replace(answer, unused=phases.unused(turn))
        except (UserError, tf.errors.OpError, MemoryError) as error:
            return Answer(error=error)

    def forget(self, program: int) -> None:
        """Gives up a computation that nobody has any more."""
        with self._lock:
            self._phases.pop(program, None)

    def _program(self, program: int, computation: ray.ObjectRef) -> Phases:
        with self._lock:
            if program not in self._phases:
                found = fetched(computation)
                self._phases[program] = found.received(self._device)
            return self._phases[program]

    def _turn(self, number: int, broadcast: Broadcast) -> Turn:
        with self._lock:
            if number not in self._turns:
                self._turns[number] = broadcast.received()
                while len(self._turns) > _TURNS:
                    self._turns.popitem(last=False)
            return self._turns[number]


def fetched(computation: ray.ObjectRef) -> Computation:
    """Returns a computation.

    Raises:
      NodeGoneError: The node does not answer, as it has ended.
    """
    try:
        return ray.get(computation)
    except (OSError, exceptions.RaySystemError) as error:
        raise NodeGoneError(str(error)) from error


def _merged(phases: Phases, turn: Turn, given: Given, work: Work) -> Answer:
    """Returns what clients gave, with as few states of blocks as can be."""
    specs, _ = phases.given_types(turn.phase)
    last = work.first + len(work.cuts) - 1
    merges, blocks, spans = merging.within(work.first, last, work.blocks)
    states = phases.merge(turn, given.states, merges, blocks) if specs else []
    return Answer.of(dataclasses.replace(given, states=states, spans=spans), specs)

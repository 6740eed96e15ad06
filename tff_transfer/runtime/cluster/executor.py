"""Runs blocks of clients on a cluster's actors."""

import collections
import contextlib
import itertools
import threading
import weakref
from collections.abc import Iterator, Sequence

import ray
import tensorflow as tf
import tensorflow_federated as tff
from ray import exceptions

from tff_transfer.errors import UserError, one_line
from tff_transfer.runtime.blocks import Blocks, Leaf
from tff_transfer.runtime.cluster import scheduling
from tff_transfer.runtime.cluster.calls import Calls, Shared
from tff_transfer.runtime.cluster.messages import Broadcast, Computation
from tff_transfer.runtime.cluster.workers import Workers, cause
from tff_transfer.runtime.phases import Phases
from tff_transfer.runtime.turns import Given, Turn

# Up to so many bytes of broadcasts go to a node within its calls.
_IN_CALLS = 2**22


class Actors:
    """Runs blocks on actors (`executors.Executor`).

    Attributes:
      moved: Bytes of arrays so far: `'clients'`' values and the `'broadcast'` to
        actors, and `'answers'` from them.
    """

    def __init__(self, workers: Workers):
        """Keeps the actors."""
        self._workers = workers
        self._known: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        # By phase, and whether clients go in lockstep: what need not be broadcast.
        self._unused: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self._forgotten: collections.deque[int] = collections.deque()
        self._numbers = itertools.count()
        # One turn at a time: another one would wait for the same processors.
        self._lock = threading.RLock()
        self.moved: collections.Counter[str] = collections.Counter()

    def run(
        self, phases: Phases, turn: Turn, leaves: Sequence[Leaf], blocks: Blocks
    ) -> Iterator[Given]:
        """Yields what clients give (`Executor.run`).

        Raises:
          UserError: Clients give sequences, no node is left, or blocks end every
            actor that runs them.
        """
        specs, kept = phases.given_types(turn.phase)
        if any(isinstance(leaf, tff.SequenceType) for leaf in kept):
            raise UserError(
                f'{phases.name}: its clients give sequences, which stay in the process'
                ' that made them; use tff_transfer.runtime.use_compiled() for it'
            )
        with self._lock, _in_one_line():
            self._workers.refresh()
            if not self._workers.ready:
                self._workers.wait()
            self._forget()
            calls = max(self._workers.threads, blocks.parts)
            shares = scheduling.shares(blocks.cuts, blocks.sizes.tolist(), calls)
            shared = self._shared(phases, turn)
            for answer in Calls(self._workers, shared, leaves, shares, self.moved):
                yield answer.given(specs)
                self._unused.setdefault(phases, {})[_kind(turn)] = answer.unused

    def _shared(self, phases: Phases, turn: Turn) -> Shared:
        """Returns what all calls of a turn have in common."""
        if phases not in self._known:
            number = next(self._numbers)
            computation = Computation.of(phases.computation, phases.settings)
            self._known[phases] = number, ray.put(computation)
            weakref.finalize(phases, self._forgotten.append, number)
        unused = self._unused.get(phases, {}).get(_kind(turn), ())
        broadcast = Broadcast.of(turn, unused)
        calls = max(worker.threads for worker in self._workers.ready)
        # In calls themselves there is no way round by object stores.
        inside = broadcast.nbytes * calls <= _IN_CALLS
        return Shared(
            *self._known[phases],
            next(self._numbers),
            broadcast if inside else ray.put(broadcast),
            broadcast.nbytes,
        )

    def _forget(self) -> None:
        """Has actors give up computations that there are no more."""
        while self._forgotten:
            number = self._forgotten.popleft()
            for worker in self._workers.ready:
                worker.handle.forget.remote(number)


def _kind(turn: Turn) -> tuple[int, bool]:
    return turn.phase, bool(turn.together)


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Makes of what goes wrong in the cluster errors of one line."""
    try:
        yield
    except (exceptions.ObjectStoreFullError, exceptions.OutOfDiskError) as error:
        raise UserError(
            "a node's object store is full: start nodes with a larger"
            ' --object_store_memory, or give a smaller block_bytes'
        ) from error
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise UserError(
            f'a node has too little memory ({one_line(error)}): give a smaller'
            ' block_bytes, or larger nodes'
        ) from error
    except exceptions.RayTaskError:
        raise  # A mistake in what actors run: its traceback tells where.
    except exceptions.RayError as error:
        raise UserError(f'the cluster failed: {cause(error)}') from error

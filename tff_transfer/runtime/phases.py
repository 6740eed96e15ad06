"""A computation's phases, compiled when they are first run, and what clients do."""

import threading
import weakref
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.errors import UserError
from tff_transfer.runtime import (
    block_states,
    failures,
    layouts,
    merging,
    results,
)
from tff_transfer.runtime.blocks import Leaf, Settings
from tff_transfer.runtime.lockstep import arguments as lockstep
from tff_transfer.runtime.lockstep.values import NotVectorizedError
from tff_transfer.runtime.plan import Plan
from tff_transfer.runtime.tensors import to_array
from tff_transfer.runtime.traced import Traced
from tff_transfer.runtime.turns import Given, Turn


class Phases:
    """A computation's phases as functions.

    Attributes:
      name: What the computation is called in errors.
      plan: What runs in which order.
      functions: What traces it.
      settings: How it runs.
    """

    def __init__(self, comp, settings: Settings):
        """Plans a computation.

        Args:
          comp: A `tff.Computation`.
          settings: How it runs.
        """
        self.name = 'computation ' + _shorten(comp.type_signature)
        self.plan = Plan(comp.to_building_block())
        self.traced = Traced(
            self.plan, comp.type_signature.parameter, self.name, settings
        )
        self.functions = self.traced.functions
        self.settings = settings
        # What is compiled is kept for as long as the computation is.
        self._computation = weakref.ref(comp)
        self._given: dict[int, tuple] = {}
        self._optimized: set[tuple[int, bool, bool]] = set()
        self._obstacles: dict[int, str] = {}
        self._unused: dict[tuple[int, bool], frozenset[int]] = {}
        self._lock = threading.RLock()

    @property
    def computation(self):
        """The `tff.Computation`, which whoever runs it holds."""
        return self._computation()

    def given_types(self, number: int) -> tuple[list[tf.TensorSpec], list[tff.Type]]:
        """Returns what clients of a phase give.

        Args:
          number: The number of the phase.

        Returns:
          The specs of the states of their aggregations, and the types of the leaves of
          what is kept of each client.
        """
        if number not in self._given:
            phase = self.plan.phases[number]
            kept = self.functions.kept_types(phase)
            leaves = [leaf for t in kept for leaf in layouts.leaf_types(t)]
            self._given[number] = self.functions.state_specs(phase), leaves
        return self._given[number]

    def run_server(
        self, number: int, inputs: Sequence[tf.Tensor | np.ndarray]
    ) -> list[tf.Tensor] | list[np.ndarray]:
        """Runs the server's part of a phase (`Functions.server`).

        Raises:
          UserError: It failed, and then it is of TensorFlow's class too; or it cannot
            run here.
        """
        try:
            return self.traced.call('server', number, inputs, self.traced.small)
        except tf.errors.OpError as error:
            raise self.failed('the server', error) from error

    def run_clients(
        self, turn: Turn, leaves: Sequence[Leaf], cuts: Sequence[int], before: int = 0
    ) -> Given:
        """Runs blocks of clients.

        Args:
          turn: What is the same for all of them.
          leaves: The clients' values.
          cuts: The first client of each block, and the one after the last.
          before: How many clients of the cohort come before those of `leaves`.

        Returns:
          What they gave.

        Raises:
          tf.errors.OpError: A client failed.
          UserError: They cannot run here.
        """
        specs, kept = self.given_types(turn.phase)
        if turn.together:
            first, arrays = lockstep.arrays(leaves, cuts, turn.together)
        else:
            arrays = [a for leaf in leaves for a in leaf.part(cuts[0], cuts[-1])]
            first = [np.asarray(cuts) - cuts[0]]
        place = place_in(turn.key, before + cuts[0])
        inputs = [*place, *first, *turn.inputs, *arrays]
        found = self.traced.call(
            _kind(turn), turn.phase, inputs, turn.one_thread, specs
        )
        rest = iter(found[len(specs) :])
        return Given(
            list(found[: len(specs)]),
            [1] * (len(cuts) - 1),
            [results.collect(rest, leaf) for leaf in kept],
        )

    def merge(
        self,
        turn: Turn,
        states: Sequence[tf.Tensor] | Sequence[np.ndarray],
        merges: Sequence[merging.Merge],
        kept: Sequence[int],
    ) -> list[tf.Tensor] | list[np.ndarray]:
        """Merges blocks' states.

        Args:
          turn: What is the same for all clients.
          states: The states, as `Given` has them.
          merges: Which are merged.
          kept: Which blocks' states are wanted then.

        Returns:
          The states of these, side by side if they can be (block_states.py).
        """
        arrays = block_states.are_arrays(states)
        if arrays and not merges and len(kept) == len(states[0]):
            return states
        kind = 'merge' if arrays else 'merge_lists'
        pairs = np.array(merges, np.int64).reshape(-1, 3)
        which = [*place_in(turn.key, 0), pairs, np.array(kept, np.int32)]
        inputs = [*which, *turn.inputs, *states]
        found = self.traced.call(kind, turn.phase, inputs, turn.one_thread)
        specs, _ = self.given_types(turn.phase)
        return [*map(to_array, found)] if block_states.can_be_arrays(specs) else found

    def unused(self, turn: Turn) -> frozenset[int]:
        """Returns which of `turn.inputs` change nothing that clients give."""
        key = turn.phase, bool(turn.together)
        return self.traced.once(self._unused, key, lambda: self._find_unused(turn))

    def _find_unused(self, turn: Turn) -> frozenset[int]:
        kinds = [_kind(turn)]
        if self.given_types(turn.phase)[0]:
            kinds.append('merge' if turn.one_thread else 'merge_lists')
        first = {'lockstep': 3, 'clients': 1, 'merge': 2, 'merge_lists': 2}
        place = len(place_in(turn.key, 0))
        numbers = set(range(len(turn.inputs)))
        for kind in kinds:
            function = self.traced.function(kind, turn.phase)
            inputs = function.inputs[place + first[kind] :]
            numbers = {n for n in numbers if not inputs[n].consumers()}
        return frozenset(numbers)

    def optimize(self, turn: Turn, leaves: Sequence[Leaf]) -> None:
        """Has TensorFlow optimize what clients do, for each device, once.

        It does so at the first call, and twice if two threads call at a time.

        Raises:
          UserError: It cannot run here.
        """
        key = turn.phase, bool(turn.together), turn.one_thread
        with self._lock:
            if key in self._optimized:
                return
            for device in self.settings.devices:
                try:
                    with tf.device(device):
                        self.run_clients(turn, leaves, [0, 0])
                except tf.errors.OpError as error:
                    raise self.failed('a cohort of no clients', error) from error
            self._optimized.add(key)

    def obstacle(self, number: int) -> str:
        """Returns what is in the way of clients' going in lockstep, or nothing."""
        return self.traced.once(
            self._obstacles, number, lambda: self._find_obstacle(number)
        )

    def _find_obstacle(self, number: int) -> str:
        try:
            self.traced.function('lockstep', number)
        except NotVectorizedError as error:
            return str(error)
        return ''

    def failed(self, where: str, error: tf.errors.OpError) -> UserError:
        """Returns what is raised when something failed: it says where."""
        words = failures.words(error.message) or type(error).__name__
        if words.startswith('No OpKernel'):
            return failures.cannot_run(self.name, words)
        line = f'{self.name} failed at {where}: {words}'
        return failures.failure(line, type(error), error.node_def)


def place_in(key: np.ndarray | None, first: int) -> list[np.ndarray]:
    """Returns what `keys.SPECS` says of a block's first client, if there is a key."""
    return [] if key is None else [key, np.array(first, np.int64)]


def _kind(turn: Turn) -> str:
    return 'lockstep' if turn.together else 'clients'


def _shorten(type_signature) -> str:
    text = type_signature.compact_representation()
    return text if len(text) < 160 else f'{text[:80]}...{text[-60:]}'

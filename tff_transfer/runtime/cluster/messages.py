"""What travels between a driver and its actors: plain arrays, and errors as values."""

import dataclasses
import itertools
from collections.abc import Collection, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow.python.ops import list_ops
from tensorflow_federated.proto.v0 import computation_pb2

from tff_transfer.data.rows import files_of
from tff_transfer.runtime import block_states
from tff_transfer.runtime.blocks import Leaf, Settings
from tff_transfer.runtime.cluster import files
from tff_transfer.runtime.cluster.packing import Packed
from tff_transfer.runtime.cluster.scheduling import Share
from tff_transfer.runtime.layouts import ClientTensors
from tff_transfer.runtime.phases import Phases
from tff_transfer.runtime.tensors import to_array, to_tensor
from tff_transfer.runtime.turns import Given, Turn


@dataclasses.dataclass(frozen=True)
class Computation:
    """A computation, as it travels to each actor once.

    Attributes:
      proto: TFF's serialised form.
      settings: How it runs; devices are the actor's own.
    """

    proto: bytes
    settings: Settings

    @classmethod
    def of(cls, comp: tff.Computation, settings: Settings) -> 'Computation':
        """Makes it of a computation."""
        proto = tff.framework.serialize_computation(comp)
        return cls(proto.SerializeToString(), settings)

    def received(self, device: str) -> Phases:
        """Returns its phases, of which none is traced yet, on a device."""
        proto = computation_pb2.Computation.FromString(self.proto)
        comp = tff.framework.deserialize_computation(proto)
        return Phases(comp, dataclasses.replace(self.settings, devices=(device,)))


@dataclasses.dataclass(frozen=True)
class Broadcast:
    """A `Turn` without tensors, as it travels to each actor once.

    Attributes:
      turn: The turn; its inputs are arrays, or specs of tensors that are not used.
    """

    turn: Turn

    @classmethod
    def of(cls, turn: Turn, unused: Collection[int]) -> 'Broadcast':
        """Makes it of a turn, without those of its inputs that are `Phases.unused`."""
        inputs = [
            tf.TensorSpec(tensor.shape, tensor.dtype)
            if number in unused
            else to_array(tensor)
            for number, tensor in enumerate(turn.inputs)
        ]
        return cls(dataclasses.replace(turn, inputs=inputs))

    def received(self) -> Turn:
        """Returns the turn, with zeros in what is not used.

        Its inputs are arrays, or tensors where functions want these.
        """
        inputs = [
            _zeros(given) if isinstance(given, tf.TensorSpec) else given
            for given in self.turn.inputs
        ]
        if not self.turn.one_thread:
            inputs = [to_tensor(given) for given in inputs]
        return dataclasses.replace(self.turn, inputs=inputs)

    def __reduce__(self):
        packed = dataclasses.replace(self.turn, inputs=Packed(self.turn.inputs))
        return Broadcast, (packed,)

    @property
    def nbytes(self) -> int:
        """How many bytes its arrays take."""
        return sum(
            given.nbytes for given in self.turn.inputs if isinstance(given, np.ndarray)
        )


def _zeros(spec: tf.TensorSpec) -> np.ndarray:
    zero = b'' if spec.dtype == tf.string else 0
    return np.full(spec.shape, zero, spec.dtype.as_numpy_dtype)


@dataclasses.dataclass(frozen=True)
class Work:
    """Blocks of clients that an actor runs in one call.

    Attributes:
      leaves: The values of their clients alone.
      cuts: The first client of each block, from 0, and the one after the last.
      before: How many clients of the cohort come before them.
      first: How many blocks of the cohort come before them.
      blocks: How many there are in all.
    """

    leaves: Sequence[Leaf]
    cuts: Sequence[int]
    before: int
    first: int
    blocks: int

    @classmethod
    def of(
        cls, leaves: Sequence[Leaf], share: Share, blocks: int, reaches: files.Reaches
    ) -> 'Work':
        """Makes it of all clients' values and some blocks.

        Args:
          leaves: The clients' values.
          share: The blocks.
          blocks: How many there are in all.
          reaches: Whether the actor reads files itself.
        """
        first, last = share.cuts[0], share.cuts[-1]

        def cut(values, first, last):
            found = files_of(values)
            if found and reaches(found):
                return files.Late(values, first, last)
            return np.asarray(values[first:last])

        mine = [leaf.some(first, last, cut) for leaf in leaves]
        cuts = [cut - first for cut in share.cuts]
        return cls(mine, cuts, first, share.first, blocks)

    @property
    def nbytes(self) -> int:
        """How many bytes travel."""
        arrays = [
            array
            for leaf in self.leaves
            for array in (
                leaf.arrays
                if isinstance(leaf, ClientTensors)
                else (leaf.starts, *(a for of_leaf in leaf.leaves for a in of_leaf))
            )
        ]
        return sum(array.nbytes for array in arrays)


class NodeGoneError(Exception):
    """Raised by an actor that has outlived its node, which it needs, for a moment."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What an actor gives back.

    Attributes:
      states: Blocks' states, each of one block or of neighbours: side by side where
        they can be (block_states.py), else the arrays of each.
      spans: Of how many blocks each of these is the state.
      kept: What `Given.kept` has.
      unused: What need not be broadcast the next time (`Phases.unused`).
      error: What was raised instead, if something was.
    """

    states: list[np.ndarray] | list[list[np.ndarray]] = dataclasses.field(
        default_factory=list
    )
    spans: Sequence[int] = ()
    kept: list[list] = dataclasses.field(default_factory=list)
    unused: frozenset[int] = frozenset()
    error: Exception | None = None

    @classmethod
    def of(cls, given: Given, specs: Sequence[tf.TensorSpec]) -> 'Answer':
        """Makes it of what clients gave, whose states are side by side if they can."""
        states = given.states
        if not block_states.can_be_arrays(specs):
            states = [
                [to_array(t) for t in block_states.of_block(states, specs, block)]
                for block in range(len(given.spans))
            ]
        return cls(states, given.spans, given.kept)

    def given(self, specs: Sequence[tf.TensorSpec]) -> Given:
        """Returns what clients gave.

        Raises:
          Exception: What was raised instead.
        """
        if self.error is not None:
            raise self.error
        if block_states.can_be_arrays(specs):
            return Given(self.states, self.spans, self.kept)
        lists = []
        for number, spec in enumerate(specs):
            states = list_ops.tensor_list_reserve(
                spec.shape, len(self.states), spec.dtype
            )
            for block, state in enumerate(self.states):
                value = to_tensor(state[number])
                states = list_ops.tensor_list_set_item(states, block, value)
            lists.append(states)
        return Given(lists, self.spans, self.kept)

    def __reduce__(self):
        values = [getattr(self, field.name) for field in dataclasses.fields(self)]
        return Answer, (Packed(values[0]), *values[1:])

    @property
    def nbytes(self) -> int:
        """How many bytes its arrays take."""
        of_states = itertools.chain.from_iterable(
            [state] if isinstance(state, np.ndarray) else state for state in self.states
        )
        of_clients = itertools.chain.from_iterable(self.kept)
        return sum(array.nbytes for array in (*of_states, *of_clients))

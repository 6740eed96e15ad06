"""How blocks' states become fewer, as a function to be traced."""

import tensorflow as tf

from tff_transfer.runtime import block_states, keys
from tff_transfer.runtime.plan import Phase
from tff_transfer.runtime.sequences import leaves, pack


class BlockMerge:
    """Merges of the states of `Functions.summed`."""

    def __init__(self, functions, phase: Phase, side_by_side: bool):
        """Keeps the `Functions` of a plan and the phase.

        Args:
          functions: The functions.
          phase: The phase.
          side_by_side: Whether states come as arrays [blocks, ...], and not as lists.
        """
        self._functions, self._phase = functions, phase
        self._side_by_side = side_by_side
        self._summed = functions.summed(phase)
        self._state_types = [functions.state_type(n) for n in self._summed]
        self._states = functions.state_specs(phase)

    def specs(self) -> list[tf.TensorSpec]:
        """Returns the specs of the function's arguments.

        These are `keys.SPECS`, the merges (merging.py), int64 [merges, 3], the server's
        part of the parameter, `phase.client_inputs` and the states.
        """
        functions = self._functions
        states = [
            tf.TensorSpec([None, *s.shape], s.dtype)
            if self._side_by_side
            else tf.TensorSpec([], tf.variant)
            for s in self._states
        ]
        return [
            *functions.key_specs,
            tf.TensorSpec([None, 3], tf.int64),
            *functions.server_specs(),
            *functions.call_specs(self._phase.client_inputs),
            *states,
        ]

    def run(self, *flat: tf.Tensor) -> list[tf.Tensor]:
        """Merges, from tensors of `specs`.

        Returns:
          The lists of states (block_states.py), then the first block's state.
        """
        functions = self._functions
        flat = iter(flat)
        key, _ = functions.place(flat)
        merges = next(flat)
        values = functions.server_parts(flat)
        scope = functions.scope(
            functions.at_server, values, self._phase.client_inputs, flat
        )
        lists = block_states.from_arrays(flat) if self._side_by_side else flat

        def body(merge, *lists):
            left, right, number = tf.unstack(merges[merge])
            before, after = (
                iter(block_states.of_block(lists, self._states, tf.cast(i, tf.int32)))
                for i in (left, right)
            )
            with functions.keys.at(lambda: keys.fold(key, keys.MERGE, number)):
                merged = self._merged(scope, before, after)
            place = tf.cast(left, tf.int32)
            return merge + 1, *block_states.replaced(lists, merged, place)

        count = tf.shape(merges)[0]
        _, *lists = tf.while_loop(
            lambda merge, *_: merge < count, body, (0, *lists), parallel_iterations=1
        )
        return [*lists, *block_states.of_block(lists, self._states, 0)]

    def _merged(self, scope, before, after) -> list[tf.Tensor]:
        """Returns the state of two blocks."""
        merged = []
        for name, state_type in zip(self._summed, self._state_types, strict=True):
            a, b = pack(before, state_type), pack(after, state_type)
            with self._functions.aggregation(name, scope) as (aggregation, _):
                merged.extend(leaves(aggregation.merge(a, b)))
        return merged

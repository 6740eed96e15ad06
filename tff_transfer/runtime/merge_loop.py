"""How states of blocks become fewer, as a function to be traced."""

import tensorflow as tf

from tff_transfer.runtime import block_states, keys
from tff_transfer.runtime.plan import Phase
from tff_transfer.runtime.sequences import leaves, pack


class MergeLoop:
    """The merges of a phase's blocks, one after another."""

    def __init__(self, functions, phase: Phase, in_lists: bool):
        """Keeps what is merged.

        Args:
          functions: The `Functions` of the plan.
          phase: The phase.
          in_lists: Whether states come in lists, or side by side (block_states.py).
        """
        self._functions, self._phase, self._in_lists = functions, phase, in_lists
        self._summed = functions.summed(phase)
        self._state_types = [functions.state_type(n) for n in self._summed]
        self._states = functions.state_specs(phase)

    def specs(self) -> list[tf.TensorSpec]:
        """Returns the specs of the function's arguments.

        These are `keys.SPECS`, the merges (merging.py), int64 [merges, 3], which
        blocks' states are wanted then, int32 [kept], the server's part of the
        parameter, `phase.client_inputs` and the states.
        """
        functions = self._functions
        return [
            *functions.key_specs,
            tf.TensorSpec([None, 3], tf.int64),
            tf.TensorSpec([None], tf.int32),
            *functions.server_specs(),
            *functions.call_specs(self._phase.client_inputs),
            *(
                tf.TensorSpec([], tf.variant)
                if self._in_lists
                else tf.TensorSpec([None, *spec.shape], spec.dtype)
                for spec in self._states
            ),
        ]

    def run(self, *flat: tf.Tensor) -> list[tf.Tensor]:
        """Merges, from tensors of `specs`.

        Returns:
          The states that are kept, side by side if they can be (block_states.py).
        """
        functions, phase = self._functions, self._phase
        flat = iter(flat)
        key, _ = functions.place(flat)
        merges, kept = next(flat), next(flat)
        values = functions.server_parts(flat)
        scope = functions.scope(functions.at_server, values, phase.client_inputs, flat)
        lists = list(flat) if self._in_lists else block_states.from_arrays(flat)

        def body(merge, *lists):
            left, right, number = tf.unstack(merges[merge])
            pair = [
                block_states.of_block(lists, self._states, tf.cast(i, tf.int32))
                for i in (left, right)
            ]
            with functions.keys.at(lambda: keys.fold(key, keys.MERGE, number)):
                merged = self._merged(scope, *pair)
            place = tf.cast(left, tf.int32)
            return merge + 1, *block_states.replaced(lists, merged, place)

        count = tf.shape(merges)[0]
        _, *lists = tf.while_loop(
            lambda merge, *_: merge < count, body, (0, *lists), parallel_iterations=1
        )
        chosen = block_states.chosen(lists, self._states, kept)
        if block_states.can_be_arrays(self._states):
            return block_states.side_by_side(chosen, self._states)
        return chosen

    def _merged(self, scope, before: list, after: list) -> list[tf.Tensor]:
        """Returns the state of two blocks from theirs."""
        before, after, merged = iter(before), iter(after), []
        for name, t in zip(self._summed, self._state_types, strict=True):
            a, b = pack(before, t), pack(after, t)
            with self._functions.aggregation(name, scope) as (aggregation, _):
                merged.extend(leaves(aggregation.merge(a, b)))
        return merged

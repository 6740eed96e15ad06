"""What blocks of clients do, one client after another, as a function to be traced."""

from collections.abc import Callable

import tensorflow as tf

from tff_transfer.runtime import block_states, kept_values, keys, layouts
from tff_transfer.runtime.parameters import client_value, take
from tff_transfer.runtime.plan import Phase
from tff_transfer.runtime.sequences import leaves, pack


class ClientLoop:
    """The clients' part of a phase, a client at a time."""

    def __init__(self, functions, phase: Phase):
        """Keeps the `Functions` of a plan and the phase."""
        self._functions, self._phase = functions, phase
        self._part_types = [p.type for p in functions.parts if p.at_clients]
        self._carried_types = [functions.type_of(n) for n in phase.carried]
        self._summed = functions.summed(phase)
        self._state_types = [functions.state_type(n) for n in self._summed]
        self._kept_types = [
            leaf for t in functions.kept_types(phase) for leaf in layouts.leaf_types(t)
        ]

    def specs(self) -> list[tf.TensorSpec]:
        """Returns the specs of the function's arguments (`Functions.clients`)."""
        functions = self._functions
        return [
            *functions.key_specs,
            tf.TensorSpec([None], tf.int64),
            *functions.server_specs(),
            *functions.call_specs(self._phase.client_inputs),
            *(s for t in self._part_types for s in layouts.client_specs(t)),
            *(s for t in self._carried_types for s in layouts.client_specs(t)),
        ]

    def run(self, *flat: tf.Tensor) -> list[tf.Tensor]:
        """Does what blocks of clients do, from tensors of `specs`."""
        functions, phase = self._functions, self._phase
        flat = iter(flat)
        key, first = functions.place(flat)
        cuts = next(flat)
        server = functions.server_parts(flat)
        known = {n: pack(flat, functions.type_of(n)) for n in phase.client_inputs}
        of_parts = [take(flat, layouts.client_specs(t)) for t in self._part_types]
        of_calls = [take(flat, layouts.client_specs(t)) for t in self._carried_types]

        def scope_of(client):
            mine = iter(
                client_value(a, t, client)
                for a, t in zip(of_parts, self._part_types, strict=True)
            )
            parts = [
                next(mine) if p.at_clients else value
                for p, value in zip(functions.parts, server, strict=True)
            ]
            carried = {
                n: client_value(a, t, client)
                for n, a, t in zip(
                    phase.carried, of_calls, self._carried_types, strict=True
                )
            }
            return functions.scope(
                functions.at_client, parts, (), iter(()), {**known, **carried}
            )

        def body(client, states, stacks):
            number = lambda: keys.fold(key, keys.CLIENT, first + client)  # noqa: E731
            with functions.keys.at(number):
                scope = scope_of(client)
                return client + 1, *self._of_client(scope, client, states, stacks)

        # Depends on no client: the parameter's clients' parts are not read.
        scope = functions.scope(functions.at_server, server, (), iter(()), known)
        with functions.keys.at(lambda: keys.fold(key, keys.SERVER)):
            zero = functions.zeros(phase, scope)
        stacks = [
            s for leaf in self._kept_types for s in kept_values.make(leaf, cuts[-1])
        ]
        states, stacks = over_blocks(
            cuts, body, zero, functions.state_specs(phase), stacks
        )
        read = [
            tensor
            for leaf, stack in zip(
                self._kept_types,
                kept_values.group(stacks, self._kept_types),
                strict=True,
            )
            for tensor in kept_values.read(stack, leaf)
        ]
        return [*(s.flow for s in states), *read]

    def _of_client(self, scope, client, states: list, stacks: list):
        """Returns the states and tensor arrays with what a client gives."""
        functions, phase = self._functions, self._phase
        states = iter(states)
        new = []
        for name, state_type in zip(self._summed, self._state_types, strict=True):
            state = pack(states, state_type)
            with functions.aggregation(name, scope) as (aggregation, value):
                new.extend(leaves(aggregation.accumulate(state, value())))
        kept = functions.kept_by_client(phase, scope)
        stacks = [
            stack
            for value, leaf, stack in zip(
                [leaf for value in kept for leaf in leaves(value)],
                self._kept_types,
                kept_values.group(stacks, self._kept_types),
                strict=True,
            )
            for stack in kept_values.write(stack, client, value, leaf)
        ]
        return new, stacks


def over_blocks(
    cuts: tf.Tensor, body: Callable, zero: list, state_specs: list, stacks: list
) -> tuple[list[tf.TensorArray], list[tf.TensorArray]]:
    """Loops over blocks, and over what each block is made of.

    Args:
      cuts: Where each block starts, and the last one's end, int64 [blocks + 1].
      body: A function of a number, from the start of a block to its end, the block's
        states and the tensor arrays to the next number and the new ones.
      zero: The states that each block starts from.
      state_specs: Their specs.
      stacks: Tensor arrays that all blocks write to.

    Returns:
      Lists of the blocks' states (block_states.py), and the tensor arrays.
    """

    def of_block(block, states, stacks):
        first, last = cuts[block], cuts[block + 1]
        _, new, stacks = tf.while_loop(
            lambda number, *_: number < last,
            body,
            (first, zero, stacks),
            shape_invariants=(
                tf.TensorShape([]),
                [spec.shape for spec in state_specs],
                [tf.TensorShape(None)] * len(stacks),
            ),
            parallel_iterations=1,
        )
        states = [s.write(block, n) for s, n in zip(states, new, strict=True)]
        return block + 1, states, stacks

    count = tf.size(cuts) - 1
    states = block_states.make(state_specs, count)
    _, states, stacks = tf.while_loop(
        lambda block, *_: block < count,
        of_block,
        (0, states, stacks),
        shape_invariants=(
            tf.TensorShape([]),
            [tf.TensorShape(None)] * len(states),
            [tf.TensorShape(None)] * len(stacks),
        ),
        parallel_iterations=1,
    )
    return states, stacks

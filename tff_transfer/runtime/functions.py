"""A plan's phases as functions to be traced: one of the server, one of the clients."""

import collections
import contextlib
from collections.abc import Callable, Iterator

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.runtime import (
    aggregations,
    appending,
    block_states,
    kept_values,
    keys,
    layouts,
)
from tff_transfer.runtime.blocks import Settings
from tff_transfer.runtime.interpreter import Interpreter, Lazy
from tff_transfer.runtime.parameters import (
    client_value,
    member,
    opened,
    parameter_parts,
    take,
)
from tff_transfer.runtime.plan import Phase, Plan
from tff_transfer.runtime.sequences import Sequence, leaves, pack


class Functions:
    """What runs in each phase, on flat lists of tensors.

    Attributes:
      traces: How many functions were traced.
    """

    def __init__(
        self,
        plan: Plan,
        parameter_type: tff.Type | None,
        name: str,
        settings: Settings,
    ):
        self._plan = plan
        self._parts = parameter_parts(parameter_type)
        self._parameter_type = parameter_type
        self._keys = keys.Keys(settings.draws)
        self._key_specs = keys.SPECS if settings.draws else ()
        self._numbers = {name: i for i, name in enumerate(plan.calls)}
        self._server = Interpreter(name, settings.debug, None, self._keys)
        self._clients = Interpreter(
            name, settings.debug, settings.compute_dtype, self._keys
        )
        self._rows: dict[str, tuple[int, ...] | None] = {}
        self.traces = 0

    def server(
        self, phase: Phase, last: bool
    ) -> tf.types.experimental.ConcreteFunction:
        """Traces what the server does.

        Args:
          phase: The phase.
          last: Whether it gives the result.

        Returns:
          A function of `keys.SPECS` (if draws hang on keys, as in the others), the
          server's part of the parameter, `phase.server_inputs` and the states of
          `phase.reported` to `phase.exports` and, if `last`, the server's part of the
          result.
        """
        state_types = [self.state_type(n) for n in phase.reported]
        specs = [
            *self._key_specs,
            *self._server_specs(),
            *self._call_specs(phase.server_inputs),
            *(s for t in state_types for s in layouts.specs(t)),
        ]

        def evaluate(flat):
            values = self._parameter(flat)
            scope = self._scope(self._server, values, phase.server_inputs, flat)
            for name, state_type in zip(phase.reported, state_types, strict=True):
                state = pack(flat, state_type)
                with self._aggregation(name, scope) as (aggregation, _):
                    scope[name] = aggregation.report(state)
            values = [scope[n] for n in phase.exports]
            if last:
                values += [
                    self._server.evaluate(o.block, scope)
                    for o in self._plan.outputs
                    if not o.at_clients
                ]
            return values

        def run(*flat):
            self.traces += 1
            flat = iter(flat)
            key, _ = self._place(flat)
            with self._keys.at(lambda: keys.fold(key, keys.SERVER)):
                values = evaluate(flat)
            return [
                leaf.variant() if isinstance(leaf, Sequence) else leaf
                for value in values
                for leaf in leaves(value)
            ]

        return _trace(run, specs)

    def clients(self, phase: Phase) -> tf.types.experimental.ConcreteFunction:
        """Traces what blocks of clients do, one client after another.

        Args:
          phase: The phase.

        Returns:
          A function of `keys.SPECS`, the first client of each block and the number of
          clients, int64 [blocks + 1], the server's part of the parameter,
          `phase.client_inputs`, the clients' part of the parameter and
          `phase.carried`, to lists (TensorFlow's, as variant tensors) of the blocks'
          states of `summed(phase)` and, stacked, what `kept_types` says of each client.
        """
        carried_types = [self._type_of(n) for n in phase.carried]
        summed = self.summed(phase)
        state_types = [self.state_type(n) for n in summed]
        state_specs = self.state_specs(phase)
        kept_types = self.kept_types(phase)
        client_parts = [p.type for p in self._parts if p.at_clients]
        specs = [
            *self._key_specs,
            tf.TensorSpec([None], tf.int64),
            *self._server_specs(),
            *self._call_specs(phase.client_inputs),
            *(s for t in client_parts for s in layouts.client_specs(t)),
            *(s for t in carried_types for s in layouts.client_specs(t)),
        ]
        kept_leaves = [leaf for t in kept_types for leaf in layouts.leaf_types(t)]

        def run(*flat):
            self.traces += 1
            flat = iter(flat)
            key, first = self._place(flat)
            cuts = next(flat)
            server = [
                None if p.at_clients else self._server_value(flat, p.type)
                for p in self._parts
            ]
            known = {n: pack(flat, self._type_of(n)) for n in phase.client_inputs}
            of_parts = [take(flat, layouts.client_specs(t)) for t in client_parts]
            of_calls = [take(flat, layouts.client_specs(t)) for t in carried_types]

            def scope_of(client):
                mine = iter(
                    client_value(a, t, client)
                    for a, t in zip(of_parts, client_parts, strict=True)
                )
                parts = [
                    next(mine) if p.at_clients else value
                    for p, value in zip(self._parts, server, strict=True)
                ]
                carried = {
                    n: client_value(a, t, client)
                    for n, a, t in zip(
                        phase.carried, of_calls, carried_types, strict=True
                    )
                }
                known_here = {**known, **carried}
                return self._scope(self._clients, parts, (), iter(()), known_here)

            def zeros():
                # Depends on no client: the parameter's clients' parts are not read.
                scope = self._scope(self._server, server, (), iter(()), known)
                new = []
                with self._keys.at(lambda: keys.fold(key, keys.SERVER)):
                    for name in summed:
                        with self._aggregation(name, scope) as (aggregation, _):
                            new.extend(leaves(aggregation.zero()))
                return [tf.convert_to_tensor(leaf) for leaf in new]

            def body(client, states, stacks):
                with self._keys.at(lambda: keys.fold(key, keys.CLIENT, first + client)):
                    return of_client(client, states, stacks)

            def of_client(client, states, stacks):
                scope = scope_of(client)
                states = iter(states)
                new = []
                for name, state_type in zip(summed, state_types, strict=True):
                    state = pack(states, state_type)
                    with self._aggregation(name, scope) as (aggregation, value):
                        new.extend(leaves(aggregation.accumulate(state, value())))
                kept = [scope[n] for n in phase.stored]
                kept += [
                    self._clients.evaluate(self._plan.outputs[i].block, scope)
                    for i in phase.outputs
                ]
                kept = [leaf for value in kept for leaf in leaves(value)]
                for name in phase.aggregates:
                    if numbers := self.rows(name):
                        with self._aggregation(name, scope) as (_, value):
                            row = leaves(value())
                        kept += [row[number] for number in numbers]
                stacks = [
                    stack
                    for value, leaf, stack in zip(
                        kept,
                        kept_leaves,
                        kept_values.group(stacks, kept_leaves),
                        strict=True,
                    )
                    for stack in kept_values.write(stack, client, value, leaf)
                ]
                return client + 1, new, stacks

            zero = zeros()

            def of_block(block, states, stacks):
                client, last = cuts[block], cuts[block + 1]
                _, new, stacks = tf.while_loop(
                    lambda client, *_: client < last,
                    body,
                    (client, zero, stacks),
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
            stacks = [
                s for leaf in kept_leaves for s in kept_values.make(leaf, cuts[-1])
            ]
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
            read = [
                tensor
                for leaf, stack in zip(
                    kept_leaves, kept_values.group(stacks, kept_leaves), strict=True
                )
                for tensor in kept_values.read(stack, leaf)
            ]
            return [*(s.flow for s in states), *read]

        return _trace(run, specs)

    def merge(self, phase: Phase) -> tf.types.experimental.ConcreteFunction:
        """Traces how blocks' states of `summed(phase)` become one.

        The function's arguments are `keys.SPECS`, the server's part of the parameter,
        `phase.client_inputs` and the lists that `clients` gives.
        """
        summed = self.summed(phase)
        state_types = [self.state_type(n) for n in summed]
        states = self.state_specs(phase)
        specs = [
            *self._key_specs,
            *self._server_specs(),
            *self._call_specs(phase.client_inputs),
            *(tf.TensorSpec([], tf.variant) for _ in states),
        ]

        def run(*flat):
            self.traces += 1
            flat = iter(flat)
            key, _ = self._place(flat)
            values = self._parameter(flat)
            scope = self._scope(self._server, values, phase.client_inputs, flat)
            lists = list(flat)

            def body(block, *before):
                before, after = (
                    iter(before),
                    iter(block_states.of_block(lists, states, block)),
                )
                merged = []
                with self._keys.at(lambda: keys.fold(key, keys.MERGE, block)):
                    for name, t in zip(summed, state_types, strict=True):
                        a, b = pack(before, t), pack(after, t)
                        with self._aggregation(name, scope) as (aggregation, _):
                            merged.extend(leaves(aggregation.merge(a, b)))
                return (block + 1, *merged)

            count = tf.raw_ops.TensorListLength(input_handle=lists[0])
            _, *merged = tf.while_loop(
                lambda block, *_: block < count,
                body,
                (1, *block_states.of_block(lists, states, 0)),
                shape_invariants=(
                    tf.TensorShape([]),
                    *(spec.shape for spec in states),
                ),
                parallel_iterations=1,
            )
            return merged

        return _trace(run, specs)

    def kept_types(self, phase: Phase) -> list[tff.Type]:
        """Returns the types of what each client gives.

        These are stored calls, then outputs, then the rows of what is appended.
        """
        outputs = [self._plan.outputs[i].block.type_signature for i in phase.outputs]
        rows = []
        for name in phase.aggregates:
            if numbers := self.rows(name):
                value = self._plan.calls[name].argument[0].type_signature.member
                rows += [layouts.leaf_types(value)[i] for i in numbers]
        return [*map(self._type_of, phase.stored), *map(member, outputs), *rows]

    def rows(self, name: str) -> tuple[int, ...] | None:
        """Returns what an aggregation appends, if it appends (`appending.rows_of`)."""
        if name not in self._rows:
            self._rows[name] = appending.rows_of(self._plan, name, self._server)
        return self._rows[name]

    def summed(self, phase: Phase) -> tuple[str, ...]:
        """Returns those of `phase.aggregates` that have a state in each block."""
        return tuple(n for n in phase.aggregates if self.rows(n) is None)

    def state_specs(self, phase: Phase) -> list[tf.TensorSpec]:
        """Returns the specs of the states of `summed(phase)`."""
        types = [self.state_type(n) for n in self.summed(phase)]
        return [spec for t in types for spec in layouts.specs(t)]

    def state_type(self, name: str) -> tff.Type:
        """Returns the type of an aggregation's state."""
        return aggregations.state_type(self._plan.calls[name])

    def _type_of(self, name: str) -> tff.Type:
        return member(self._plan.calls[name].type_signature)

    def _server_specs(self) -> list[tf.TensorSpec]:
        return [
            s for p in self._parts if not p.at_clients for s in layouts.specs(p.type)
        ]

    def _call_specs(self, names) -> list[tf.TensorSpec]:
        return [s for n in names for s in layouts.specs(self._type_of(n))]

    def _server_value(self, flat: Iterator, type_spec: tff.Type):
        parts = [
            client_value(take(flat, layouts.client_specs(leaf)), leaf, 0)
            if isinstance(leaf, tff.SequenceType)
            else next(flat)
            for leaf in layouts.leaf_types(type_spec)
        ]
        return pack(iter(parts), type_spec)

    def _parameter(self, flat: Iterator) -> list:
        return [
            None if p.at_clients else self._server_value(flat, p.type)
            for p in self._parts
        ]

    def _scope(
        self,
        interpreter: Interpreter,
        parts: list,
        names,
        flat: Iterator,
        known: dict | None = None,
    ):
        known = dict(known or {})
        if self._plan.parameter is not None:
            known[self._plan.parameter] = pack(
                iter(parts), opened(self._parameter_type)
            )
        for name in names:
            known[name] = pack(flat, self._type_of(name))

        def compute(name):
            with self._keys.of_call(self._numbers[name]):
                return interpreter.evaluate(self._plan.calls[name], scope)

        scope = collections.ChainMap(Lazy(known, compute))
        return scope

    def _place(self, flat: Iterator) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """Returns the run's key and the number of the block's first client."""
        return (next(flat), next(flat)) if self._keys.wanted else (None, None)

    @contextlib.contextmanager
    def _aggregation(self, name: str, scope):
        """Gives an aggregation and a function to a client's value for it."""
        with self._keys.of_call(self._numbers[name]):
            yield aggregations.of_call(
                self._plan.calls[name],
                lambda block: self._server.evaluate(block, scope),
            )


def _trace(run: Callable, specs: list[tf.TensorSpec]):
    return tf.function(
        run, input_signature=specs, autograph=False
    ).get_concrete_function()

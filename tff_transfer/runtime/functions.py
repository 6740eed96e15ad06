"""A plan's phases as functions to be traced: one of the server, one of the clients."""

import collections
import contextlib
from collections.abc import Callable, Iterator

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.runtime import aggregations, appending, keys, layouts
from tff_transfer.runtime.blocks import Settings
from tff_transfer.runtime.client_loop import ClientLoop
from tff_transfer.runtime.interpreter import Interpreter, Lazy
from tff_transfer.runtime.lockstep import choice
from tff_transfer.runtime.lockstep.clients import LockstepClients
from tff_transfer.runtime.merge_loop import MergeLoop
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
        self.plan = plan
        self.parts = parameter_parts(parameter_type)
        self._parameter_type = parameter_type
        self.keys = keys.Keys(settings.draws)
        self.key_specs = keys.SPECS if settings.draws else ()
        self._numbers = {name: i for i, name in enumerate(plan.calls)}
        self.at_server = Interpreter(name, settings.debug, None, self.keys)
        self.at_client = Interpreter(
            name, settings.debug, settings.compute_dtype, self.keys
        )
        self._settings = settings
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
            *self.key_specs,
            *self.server_specs(),
            *self.call_specs(phase.server_inputs),
            *(s for t in state_types for s in layouts.specs(t)),
        ]

        def evaluate(flat):
            values = self.server_parts(flat)
            scope = self.scope(self.at_server, values, phase.server_inputs, flat)
            for name, state_type in zip(phase.reported, state_types, strict=True):
                state = pack(flat, state_type)
                with self.aggregation(name, scope) as (aggregation, _):
                    scope[name] = aggregation.report(state)
            values = [scope[n] for n in phase.exports]
            if last:
                values += [
                    self.at_server.evaluate(o.block, scope)
                    for o in self.plan.outputs
                    if not o.at_clients
                ]
            return values

        def run(*flat):
            self.traces += 1
            flat = iter(flat)
            key, _ = self.place(flat)
            with self.keys.at(lambda: keys.fold(key, keys.SERVER)):
                values = evaluate(flat)
            return [
                leaf.variant() if isinstance(leaf, Sequence) else leaf
                for value in values
                for leaf in leaves(value)
            ]

        return _trace(run, specs)

    def clients(self, phase: Phase) -> tf.types.experimental.ConcreteFunction:
        """Traces what blocks of clients do, one client after another.

        Returns:
          A function of `keys.SPECS`, the first client of each block and the number of
          clients, int64 [blocks + 1], the server's part of the parameter,
          `phase.client_inputs`, the clients' part of the parameter and
          `phase.carried`, to lists (TensorFlow's, as variant tensors) of the blocks'
          states of `summed(phase)` and, stacked, what `kept_types` says of each client.
        """
        return self._trace(ClientLoop(self, phase))

    def lockstep(self, phase: Phase) -> tf.types.experimental.ConcreteFunction:
        """Traces what blocks of clients do, groups of clients in lockstep.

        Returns:
          A function of `LockstepClients.specs`, to what that of `clients` gives.

        Raises:
          NotVectorizedError: An operation is in the way.
        """
        own_kernels = choice.own_kernels_pay(self._settings)
        return self._trace(LockstepClients(self, phase, own_kernels))

    def _trace(self, part: ClientLoop | LockstepClients | MergeLoop):
        def run(*flat):
            self.traces += 1
            return part.run(*flat)

        return _trace(run, part.specs())

    def given_by_client(self, phase: Phase, parts: list, known: dict) -> list:
        """Returns a client's values for `summed(phase)`, then what is kept of it.

        Args:
          phase: The phase.
          parts: The parameter's parts, as they are at the client.
          known: The values of calls, likewise.
        """
        scope = self.scope(self.at_client, parts, (), iter(()), known)
        values = []
        for name in self.summed(phase):
            with self.aggregation(name, scope) as (_, value):
                values.append(value())
        return values + self.kept_by_client(phase, scope)

    def kept_by_client(self, phase: Phase, scope) -> list:
        """Returns what each client gives, of `kept_types`."""
        kept = [scope[n] for n in phase.stored]
        kept += [
            self.at_client.evaluate(self.plan.outputs[i].block, scope)
            for i in phase.outputs
        ]
        for name in phase.aggregates:
            if numbers := self.rows(name):
                with self.aggregation(name, scope) as (_, value):
                    row = leaves(value())
                kept += [row[number] for number in numbers]
        return kept

    def merge(self, phase: Phase) -> tf.types.experimental.ConcreteFunction:
        """Traces how blocks' states of `summed(phase)` become fewer (`MergeLoop`)."""
        return self._trace(MergeLoop(self, phase, in_lists=False))

    def merge_lists(self, phase: Phase) -> tf.types.experimental.ConcreteFunction:
        """Traces what `merge` does, with the lists that `clients` gives."""
        return self._trace(MergeLoop(self, phase, in_lists=True))

    def kept_types(self, phase: Phase) -> list[tff.Type]:
        """Returns the types of what each client gives.

        These are stored calls, then outputs, then the rows of what is appended.
        """
        outputs = [self.plan.outputs[i].block.type_signature for i in phase.outputs]
        rows = []
        for name in phase.aggregates:
            if numbers := self.rows(name):
                value = self.plan.calls[name].argument[0].type_signature.member
                rows += [layouts.leaf_types(value)[i] for i in numbers]
        return [*map(self.type_of, phase.stored), *map(member, outputs), *rows]

    def rows(self, name: str) -> tuple[int, ...] | None:
        """Returns what an aggregation appends, if it appends (`appending.rows_of`)."""
        if name not in self._rows:
            self._rows[name] = appending.rows_of(self.plan, name, self.at_server)
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
        return aggregations.state_type(self.plan.calls[name])

    def value_type(self, name: str) -> tff.Type:
        """Returns the type of a client's value for an aggregation."""
        return aggregations.value_type(self.plan.calls[name])

    def type_of(self, name: str) -> tff.Type:
        """Returns the type of a call's result, without a placement."""
        return member(self.plan.calls[name].type_signature)

    def server_specs(self) -> list[tf.TensorSpec]:
        """Returns the specs of the server's part of the parameter."""
        return [
            s for p in self.parts if not p.at_clients for s in layouts.specs(p.type)
        ]

    def call_specs(self, names) -> list[tf.TensorSpec]:
        """Returns the specs of calls' results."""
        return [s for n in names for s in layouts.specs(self.type_of(n))]

    def _server_value(self, flat: Iterator, type_spec: tff.Type):
        parts = [
            client_value(take(flat, layouts.client_specs(leaf)), leaf, 0)
            if isinstance(leaf, tff.SequenceType)
            else next(flat)
            for leaf in layouts.leaf_types(type_spec)
        ]
        return pack(iter(parts), type_spec)

    def server_parts(self, flat: Iterator) -> list:
        """Returns the parameter's parts, None for those of each client."""
        return [
            None if p.at_clients else self._server_value(flat, p.type)
            for p in self.parts
        ]

    def scope(
        self,
        interpreter: Interpreter,
        parts: list,
        names,
        flat: Iterator,
        known: dict | None = None,
    ):
        """Returns the values of names where calls are evaluated when asked for.

        Args:
          interpreter: What evaluates them.
          parts: The parameter's parts.
          names: Calls whose values are the next of `flat`.
          flat: Tensors.
          known: The values of other calls.
        """
        known = dict(known or {})
        if self.plan.parameter is not None:
            known[self.plan.parameter] = pack(iter(parts), opened(self._parameter_type))
        for name in names:
            known[name] = pack(flat, self.type_of(name))

        def compute(name):
            with self.keys.of_call(self._numbers[name]):
                return interpreter.evaluate(self.plan.calls[name], scope)

        scope = collections.ChainMap(Lazy(known, compute))
        return scope

    def zeros(self, phase: Phase, scope) -> list[tf.Tensor]:
        """Returns the states of `summed(phase)` of no clients."""
        new = []
        for name in self.summed(phase):
            with self.aggregation(name, scope) as (aggregation, _):
                new.extend(leaves(aggregation.zero()))
        return [tf.convert_to_tensor(leaf) for leaf in new]

    def place(self, flat: Iterator) -> tuple[tf.Tensor | None, tf.Tensor | None]:
        """Returns the run's key and the number of the block's first client."""
        return (next(flat), next(flat)) if self.keys.wanted else (None, None)

    @contextlib.contextmanager
    def aggregation(self, name: str, scope):
        """Gives an aggregation and a function to a client's value for it."""
        with self.keys.of_call(self._numbers[name]):
            yield aggregations.of_call(
                self.plan.calls[name],
                lambda block: self.at_server.evaluate(block, scope),
            )


def _trace(run: Callable, specs: list[tf.TensorSpec]):
    return tf.function(
        run, input_signature=specs, autograph=False
    ).get_concrete_function()

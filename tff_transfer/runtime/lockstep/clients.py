"""What blocks of clients do, groups of them in lockstep, as a function to be traced."""

from collections.abc import Iterator

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.runtime import keys, layouts
from tff_transfer.runtime.client_loop import over_blocks
from tff_transfer.runtime.lockstep.sequences import (
    Batches,
    LockstepSequence,
    Pass,
    Reading,
)
from tff_transfer.runtime.lockstep.values import NotVectorizedError, Value, stack
from tff_transfer.runtime.lockstep.vectorize import Vectorizer
from tff_transfer.runtime.parameters import take
from tff_transfer.runtime.plan import Phase
from tff_transfer.runtime.sequences import leaves, pack

# Where the groups of blocks, the clients of groups and the clients lie (`Groups`).
_GROUP_SPECS = (tf.TensorSpec([None], tf.int64),) * 3
# A sequence's `Schedule`.
_SCHEDULE_SPECS = (
    tf.TensorSpec([None], tf.int64),
    tf.TensorSpec([None, 3], tf.int64),
    tf.TensorSpec([None, 3], tf.int64),
)


def client_types(functions, phase: Phase) -> list[tff.Type]:
    """Returns the types of the leaves of what is each client's, in order."""
    types = [p.type for p in functions.parts if p.at_clients]
    types += [functions.type_of(name) for name in phase.carried]
    return [leaf for t in types for leaf in layouts.leaf_types(t)]


class LockstepClients:
    """The clients' part of a phase, of one client and of groups."""

    def __init__(self, functions, phase: Phase, own_kernels: bool):
        """Traces what one client does.

        Args:
          functions: The `Functions` of the plan.
          phase: The phase.
          own_kernels: Whether clients may convolve by kernels of their own.

        Raises:
          NotVectorizedError: Clients give, or are given, what differs in shape, or
            read their data in a way that has no form for many of them.
        """
        self._functions, self._phase = functions, phase
        self._own_kernels = own_kernels
        self._leaf_types = client_types(functions, phase)
        self._kept_types = [
            leaf for t in functions.kept_types(phase) for leaf in layouts.leaf_types(t)
        ]
        for leaf in self._leaf_types:
            _check(leaf)
        for leaf in self._kept_types:
            if isinstance(leaf, tff.SequenceType):
                raise NotVectorizedError('clients give sequences')
            _check(leaf)
        self._summed = functions.summed(phase)
        self._state_types = [functions.state_type(n) for n in self._summed]
        self._passes: dict[str, Pass | Reading] = {}
        self._one = self._trace_one()

    def specs(self) -> list[tf.TensorSpec]:
        """Returns the specs of the function's arguments."""
        functions = self._functions
        specs = [
            *functions.key_specs,
            *_GROUP_SPECS,
            *functions.server_specs(),
            *functions.call_specs(self._phase.client_inputs),
        ]
        for leaf in self._leaf_types:
            if isinstance(leaf, tff.SequenceType):
                specs.extend(_SCHEDULE_SPECS)
                for element in layouts.leaf_types(leaf.element):
                    specs.append(layouts.concatenated_specs(element)[0])
            else:
                specs.extend(layouts.concatenated_specs(leaf))
        return specs

    def run(self, *flat: tf.Tensor) -> list[tf.Tensor]:
        """Does what blocks of clients do, from tensors of `specs`.

        Returns:
          What `Functions.clients` gives.
        """
        functions, phase = self._functions, self._phase
        flat = iter(flat)
        key, first = functions.place(flat)
        of_blocks, starts, order = take(flat, _GROUP_SPECS)
        shared = [
            *take(flat, functions.server_specs()),
            *take(flat, functions.call_specs(phase.client_inputs)),
        ]
        of_clients = self._of_clients(flat)
        scope = self._server_scope(iter(shared))

        def of_group(group, states, stacks):
            chosen = order[starts[group] : starts[group + 1]]
            given = (
                [] if key is None else [Value(key, False), Value(first + chosen, True)]
            )
            given += [Value(tensor, False) for tensor in shared]
            batches = {}
            for number, leaf in enumerate(of_clients):
                if isinstance(leaf, tf.Tensor):
                    given.append(Value(tf.gather(leaf, chosen), True))
                else:
                    batches[number] = _of_group(*leaf, group)
            loops = {
                name: batches[of.sequence].loop(of) for name, of in self._passes.items()
            }
            clients = tf.size(chosen)[tf.newaxis]
            many = Vectorizer(clients, own_kernels=self._own_kernels, loops=loops)
            made = many.graph(self._one.graph, given)
            made = iter([stack(v, clients) for v in made])
            states = self._accumulate(scope, key, first, chosen, states, made)
            stacks = [s.write(tf.cast(group, tf.int32), next(made)) for s in stacks]
            return group + 1, states, stacks

        with functions.keys.at(lambda: keys.fold(key, keys.SERVER)):
            zero = functions.zeros(phase, scope)
        stacks = [
            tf.TensorArray(
                layouts.tf_dtype(leaf),
                tf.size(starts) - 1,
                element_shape=[None, *leaf.shape],
                infer_shape=False,
            )
            for leaf in self._kept_types
        ]
        states, stacks = over_blocks(
            of_blocks, of_group, zero, functions.state_specs(phase), stacks
        )
        places = tf.math.invert_permutation(order)
        kept = [tf.gather(s.concat(), places) for s in stacks]
        return [*(s.flow for s in states), *kept]

    def _trace_one(self):
        """Returns the concrete function of what one client does.

        Its arguments are the run's key and the client's number, if draws hang on
        them, what the server has, and the client's tensors; it gives the client's
        values for the aggregations and what is kept of it.
        """
        functions, phase = self._functions, self._phase
        specs = [
            *functions.key_specs,
            *functions.server_specs(),
            *functions.call_specs(phase.client_inputs),
            *(
                tf.TensorSpec(leaf.shape, layouts.tf_dtype(leaf))
                for leaf in self._leaf_types
                if not isinstance(leaf, tff.SequenceType)
            ),
        ]

        def one(*flat):
            flat = iter(flat)
            key, number = functions.place(flat)
            server = functions.server_parts(flat)
            known = {n: pack(flat, functions.type_of(n)) for n in phase.client_inputs}
            mine = iter([
                LockstepSequence(leaf.element, i, self._passes)
                if isinstance(leaf, tff.SequenceType)
                else next(flat)
                for i, leaf in enumerate(self._leaf_types)
            ])  # fmt: skip
            parts = [
                pack(mine, p.type) if p.at_clients else value
                for p, value in zip(functions.parts, server, strict=True)
            ]
            known |= {n: pack(mine, functions.type_of(n)) for n in phase.carried}
            with functions.keys.at(lambda: keys.fold(key, keys.CLIENT, number)):
                return [
                    tf.convert_to_tensor(leaf)
                    for value in functions.given_by_client(phase, parts, known)
                    for leaf in leaves(value)
                ]

        return tf.function(one, autograph=False).get_concrete_function(*specs)

    def _of_clients(self, flat: Iterator) -> list:
        """Returns each leaf of the clients: a tensor, or a schedule and arrays."""
        found = []
        for leaf in self._leaf_types:
            if isinstance(leaf, tff.SequenceType):
                schedule = take(flat, _SCHEDULE_SPECS)
                arrays = take(flat, layouts.leaf_types(leaf.element))
                found.append((schedule, arrays))
            else:
                found.append(next(flat))
        return found

    def _server_scope(self, flat: Iterator):
        functions = self._functions
        server = functions.server_parts(flat)
        return functions.scope(
            functions.at_server, server, self._phase.client_inputs, flat
        )

    def _accumulate(self, scope, key, first, chosen, states: list, made: Iterator):
        """Returns the states with the values of a group's clients."""
        functions = self._functions
        states, new = iter(states), []
        for name, state_type in zip(self._summed, self._state_types, strict=True):
            state = pack(states, state_type)
            value_type = functions.value_type(name)
            values = pack(made, value_type)
            with functions.aggregation(name, scope) as (aggregation, _):
                if aggregation.accumulate_all is not None:
                    new.extend(leaves(aggregation.accumulate_all(state, values)))
                    continue

            def body(i, *state, name=name, of=(state_type, value_type, values)):
                state_type, value_type, values = of
                value = pack(iter([v[i] for v in leaves(values)]), value_type)
                number = None if key is None else first + chosen[i]
                with (
                    functions.keys.at(lambda: keys.fold(key, keys.CLIENT, number)),
                    functions.aggregation(name, scope) as (aggregation, _),
                ):
                    state = aggregation.accumulate(pack(iter(state), state_type), value)
                return (i + 1, *leaves(state))

            count = tf.size(chosen)
            _, *after = tf.while_loop(
                lambda i, *_, count=count: i < count,
                body,
                (0, *leaves(state)),
                shape_invariants=(
                    tf.TensorShape([]),
                    *(spec.shape for spec in layouts.specs(state_type)),
                ),
                parallel_iterations=1,
            )
            new.extend(after)
        return new


def _check(leaf: tff.Type) -> None:
    """Refuses values that differ in shape, and such elements."""
    if isinstance(leaf, tff.SequenceType):
        kinds = {layouts.layout(e) for e in layouts.leaf_types(leaf.element)}
        if 'ragged' in kinds:
            raise NotVectorizedError('elements have several open dimensions')
    elif layouts.layout(leaf) != 'stacked':
        raise NotVectorizedError("clients' values differ in shape")


def _of_group(schedule: list[tf.Tensor], arrays: list[tf.Tensor], group) -> Batches:
    of_groups, segments, members = schedule
    start = of_groups[group]
    before = tf.concat([tf.zeros([1], tf.int64), segments[:, 2]], 0)
    mine = segments[start : of_groups[group + 1]]
    return Batches(mine, before[start], members, arrays)

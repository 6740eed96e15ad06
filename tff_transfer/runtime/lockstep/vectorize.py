"""A graph of one client as a graph of many: its operations with a further first axis.

Each operation becomes another one, or a few, by the rule for its type (values.RULES);
what all clients have alike stays as it is. Calls are opened; branches and loops are
control.py's. There is no padding: all clients' tensors have the same shape, or else the
graph is refused.
"""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf

from tff_transfer.graphs import graph_functions
from tff_transfer.runtime.lockstep import (  # noqa: F401  (rules)
    bodies,
    control,
    effects,
    elementwise,
    images,
    iterators,
    products,
    shapes,
    variables,
)
from tff_transfer.runtime.lockstep.values import (
    RULES,
    TOKEN_RULES,
    Here,
    Node,
    NotVectorizedError,
    Value,
    like,
)


@dataclasses.dataclass(frozen=True)
class Loop:
    """What takes the place of a call.

    Attributes:
      states: How many of what it is given are states, which it gives back.
      run: Does it, with the vectorizer of the place where it stands.
    """

    states: int
    run: Callable[['Vectorizer', list[Value]], list[Value]]


@dataclasses.dataclass(frozen=True)
class Vectorizer(Here):
    """Does for many clients what graphs do for one, while a function is traced.

    Attributes:
      loops: What to do instead of calls of functions, by their names.
    """

    loops: dict[str, Loop] = dataclasses.field(default_factory=dict)

    def of_some(self, clients: tf.Tensor) -> 'Vectorizer':
        """Returns one for some of the clients; `clients` is their number, int64 [].

        Raises:
          ValueError: Not all clients come here.
        """
        if self.active is not None:
            raise ValueError('some clients pass over their data, and others do not')
        return dataclasses.replace(self, clients=tf.cast(clients, tf.int32)[tf.newaxis])

    def graph(self, graph, inputs: Sequence[Value]) -> list[Value]:
        """Returns what a `FuncGraph` gives for inputs.

        Raises:
          NotVectorizedError: An operation cannot be done for many clients.
        """
        known = {t.ref(): v for t, v in zip(graph.inputs, inputs, strict=True)}
        for op in bodies.needed(graph):
            if op.type == 'Placeholder':
                continue
            values = self._operation(op, [known[t.ref()] for t in op.inputs])
            known.update((t.ref(), v) for t, v in zip(op.outputs, values, strict=True))
        return [known[t.ref()] for t in graph.outputs]

    def call(self, name: str, inputs: Sequence[Value]) -> list[Value]:
        """Returns what a function gives for inputs, by its name."""
        return self.graph(control.function(name, inputs), inputs)

    def _operation(self, op: tf.Operation, inputs: list[Value]) -> list[Value]:
        try:
            values = self._of_type(op, inputs)
            for value, tensor in zip(values, op.outputs, strict=True):
                if tensor.shape.rank is not None and tensor.dtype != tf.resource:
                    first = [None] * value.batched
                    value.tensor.set_shape([*first, *tensor.shape])
        except (ValueError, TypeError, NotImplementedError, tf.errors.OpError) as e:
            why = str(e).splitlines()[0][:200]
            raise NotVectorizedError(f'{op.type} ({op.name}): {why}') from e
        return values

    def _of_type(self, op: tf.Operation, inputs: list[Value]) -> list[Value]:
        if op.type in graph_functions.CALLS:
            name = op.get_attr('f').name
            if name in self.loops:
                return self.loops[name].run(self, inputs)
            return self.call(name, inputs)
        if op.type in ('If', 'StatelessIf'):
            return control.branches(self, op, inputs)
        if op.type in ('While', 'StatelessWhile'):
            for ref in variables.refs(inputs):
                if callable(over := self.datasets.get(ref)):
                    return iterators.loop(self, op, inputs, over)
            return control.loop(self, op, inputs)
        if op.type == 'Identity':
            return inputs
        if self.active is not None and op.type in effects.OF_ALL:
            raise ValueError('some clients do it, and others do not')
        tokens = any(map(variables.is_token, inputs))
        alike = not tokens and not any(v.batched for v in inputs)
        if alike and not (op.op_def.is_stateful and op.type != 'NoOp'):
            made = like(op, [v.tensor for v in inputs])
            return [Value(tensor, False) for tensor in made]
        rules = TOKEN_RULES if tokens else RULES
        if op.type not in rules:
            raise NotImplementedError('it has no form for many clients at a time')
        made = rules[op.type](Node(op, inputs, self))
        made = made if isinstance(made, list) else [made]
        return [v if isinstance(v, Value) else Value(v, True) for v in made]

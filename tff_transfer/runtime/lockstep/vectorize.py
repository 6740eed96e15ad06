"""A graph of one client as a graph of many: its operations with a further first axis.

Each operation becomes another one, or a few, by the rule for its type (values.RULES);
what all clients have alike stays as it is. Calls are opened. There is no padding: all
clients' tensors have the same shape, or else the graph is refused. Where clients take
other branches, all are taken, and each client's is chosen; a loop of another number of
steps for each goes on while any client does, and who is done keeps its state.
"""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow as tf
from tensorflow.python.framework import func_graph

from tff_transfer.graphs import graph_functions
from tff_transfer.runtime.lockstep import (  # noqa: F401  (rules)
    bodies,
    effects,
    elementwise,
    images,
    products,
    shapes,
)
from tff_transfer.runtime.lockstep.values import (
    RULES,
    Node,
    NotVectorizedError,
    Value,
    like,
    stack,
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
class Vectorizer:
    """Does for many clients what graphs do for one, while a function is traced.

    Attributes:
      clients: How many there are, int32 [1], at least 1.
      loops: What to do instead of calls of functions, by their names.
      active: Which of them come here, bool [clients], if not all do.
      own_kernels: Whether each may convolve by a kernel of its own.
    """

    clients: tf.Tensor
    loops: dict[str, Loop]
    active: tf.Tensor | None = None
    own_kernels: bool = True

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
        return self.graph(_function(name, inputs), inputs)

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
            return self._if(op, *inputs)
        if op.type in ('While', 'StatelessWhile'):
            return self._while(op, inputs)
        if self.active is not None and op.type in effects.OF_ALL:
            raise ValueError('some clients do it, and others do not')
        alike = not any(v.batched for v in inputs)
        if alike and not (op.op_def.is_stateful and op.type != 'NoOp'):
            made = like(op, [v.tensor for v in inputs])
            return [Value(tensor, False) for tensor in made]
        if op.type not in RULES:
            raise NotImplementedError('it has no form for many clients at a time')
        node = Node(op, inputs, self.clients, self.active, self.own_kernels)
        made = RULES[op.type](node)
        made = made if isinstance(made, list) else [made]
        return [v if isinstance(v, Value) else Value(v, True) for v in made]

    def _if(self, op, condition: Value, *inputs: Value) -> list[Value]:
        names = [op.get_attr(f'{b}_branch').name for b in ('then', 'else')]
        if condition.batched:
            return self._for_some(names, condition.tensor, inputs)
        graphs = [_function(name, inputs) for name in names]
        found = [self._flags(graph, inputs) for graph in graphs]
        flags = [a or b for a, b in zip(*found, strict=True)]

        def branch(graph):
            return lambda: self._batched(self.graph(graph, inputs), flags)

        made = tf.cond(condition.tensor, *map(branch, graphs))
        return [Value(t, f) for t, f in zip(made, flags, strict=True)]

    def _for_some(self, names, condition, inputs) -> list[Value]:
        """Does both branches for all clients, and chooses."""
        taken = []
        for name, active in zip(names, (condition, ~condition), strict=True):
            graph = _function(name, inputs)
            if self.active is not None:
                active = tf.logical_and(active, self.active)
            some = dataclasses.replace(self, active=active)
            taken.append(some.graph(graph, inputs))
        return [effects.chosen(condition, a, b) for a, b in zip(*taken, strict=True)]

    def _while(self, op, inputs: list[Value]) -> list[Value]:
        condition = _function(op.get_attr('cond').name, inputs)
        body = _function(op.get_attr('body').name, inputs)
        flags, before = [v.batched for v in inputs], None
        while before != flags:
            before = flags
            mine = [v._replace(batched=f) for v, f in zip(inputs, flags, strict=True)]
            found = self._flags(body, mine)
            flags = [a or b for a, b in zip(flags, found, strict=True)]

        def values(tensors):
            return [Value(t, f) for t, f in zip(tensors, flags, strict=True)]

        if self._flags(condition, mine) != [False]:
            return self._while_any(condition, body, inputs)
        made = tf.while_loop(
            lambda *state: self.graph(condition, values(state))[0].tensor,
            lambda *state: self._batched(self.graph(body, values(state)), flags),
            self._batched(inputs, flags),
            shape_invariants=[
                batched_shape(t.shape) if f else t.shape
                for t, f in zip(body.outputs, flags, strict=True)
            ],
            parallel_iterations=1,
        )
        return values(made)

    def _while_any(self, condition, body, inputs: list[Value]) -> list[Value]:
        """Goes on while any client does; who is done keeps its state."""
        same = bodies.unchanged(body)
        flags = [v.batched or not s for v, s in zip(inputs, same, strict=True)]

        def values(tensors):
            return [Value(t, f) for t, f in zip(tensors, flags, strict=True)]

        def going_on(state, before=None):
            here = dataclasses.replace(self, active=before)
            go = stack(here.graph(condition, values(state))[0], self.clients)
            return go if before is None else tf.logical_and(go, before)

        def step(active, *state):
            some = dataclasses.replace(self, active=active)
            new = [
                old if kept else effects.chosen(active, v, Value(old, flag)).tensor
                for v, old, kept, flag in zip(
                    some.graph(body, values(state)), state, same, flags, strict=True
                )
            ]
            return (going_on(new, active), *new)

        start = self._batched(inputs, flags)
        _, *made = tf.while_loop(
            lambda active, *_: tf.reduce_any(active),
            step,
            (going_on(start, self.active), *start),
            shape_invariants=(
                tf.TensorShape([None]),
                *(
                    batched_shape(t.shape) if f else t.shape
                    for t, f in zip(body.outputs, flags, strict=True)
                ),
            ),
            parallel_iterations=1,
        )
        return values(made)

    def _batched(self, values: list[Value], flags: list[bool]) -> list[tf.Tensor]:
        return [
            stack(v, self.clients) if flag else v.tensor
            for v, flag in zip(values, flags, strict=True)
        ]

    def _flags(self, graph, inputs: Sequence[Value]) -> list[bool]:
        """Returns which results of a graph are each client's."""
        with func_graph.FuncGraph('trial').as_default():
            clients = tf.compat.v1.placeholder(tf.int32, [1])
            active = self.active
            if active is not None:
                active = tf.compat.v1.placeholder(tf.bool, [None])
            stand_ins = [_stand_in(v) for v in inputs]
            loops = {
                name: dataclasses.replace(loop, run=_states_of(loop.states))
                for name, loop in self.loops.items()
            }
            trial = dataclasses.replace(
                self, clients=clients, loops=loops, active=active
            )
            made = trial.graph(graph, stand_ins)
        return [v.batched for v in made]


def batched_shape(shape: tf.TensorShape) -> tf.TensorShape:
    """Returns the shape of all clients' tensors from that of one's."""
    return shape if shape.rank is None else tf.TensorShape([None, *shape])


def _of_one(value: Value) -> tf.TensorShape:
    """Returns what is known of the shape of one client's tensor."""
    shape = value.tensor.shape
    return shape[1:] if value.batched and shape.rank is not None else shape


def _stand_in(value: Value) -> Value:
    shape = _of_one(value)
    shape = batched_shape(shape) if value.batched else shape
    return Value(tf.compat.v1.placeholder(value.tensor.dtype, shape), value.batched)


def _states_of(count: int):
    def run(vectorizer, inputs):
        return [
            _stand_in(Value(stack(v, vectorizer.clients), True)) for v in inputs[:count]
        ]

    return run


def _function(name: str, inputs: Sequence[Value]):
    """Returns a function's graph, with what is known of the shapes of inputs."""
    return bodies.graph(name, [_of_one(v) for v in inputs])

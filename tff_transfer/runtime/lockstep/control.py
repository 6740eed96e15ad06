"""Branches and loops of a graph of one client, as those of many.

Where clients take other branches, all are taken, and each client's is chosen; a loop of
another number of steps for each goes on while any client does, and who is done keeps
its state. What variables hold goes through them as states do.
"""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf
from tensorflow.python.framework import func_graph

from tff_transfer.runtime.lockstep import bodies, effects
from tff_transfer.runtime.lockstep.values import Value, stack
from tff_transfer.runtime.lockstep.variables import is_token, refs


def batched_shape(shape: tf.TensorShape) -> tf.TensorShape:
    """Returns the shape of all clients' tensors from that of one's."""
    return shape if shape.rank is None else tf.TensorShape([None, *shape])


def function(name: str, inputs: Sequence[Value]):
    """Returns a function's graph, with what is known of the shapes of inputs."""
    return bodies.graph(name, [_of_one(v) for v in inputs])


def states_of(count: int):
    """Returns what stands for a loop of so many states in a trial."""

    def run(vectorizer, inputs):
        return [
            _stand_in(Value(stack(v, vectorizer.clients), True)) for v in inputs[:count]
        ]

    return run


def branches(here, op: tf.Operation, inputs: list[Value]) -> list[Value]:
    """Does an `If`; `here` is the `Vectorizer` of its place."""
    condition, *inputs = inputs
    names = [op.get_attr(f'{b}_branch').name for b in ('then', 'else')]
    if condition.batched:
        return _for_some(here, names, condition.tensor, inputs)
    known = tf.get_static_value(condition.tensor)
    if known is not None:
        return here.call(names[0 if known else 1], inputs)
    graphs = [function(name, inputs) for name in names]
    found = [_flags(here, graph, inputs) for graph in graphs]
    flags = [a or b for a, b in zip(*found, strict=True)]
    held = Held.of(here, inputs)

    def branch(graph):
        def run():
            inner = held.within(here, held.tensors(here))
            made = inner.graph(graph, inputs)
            return [*_stacked(made, flags, here.clients), *held.tensors(inner)]

        return run

    made = tf.cond(condition.tensor, *map(branch, graphs))
    held.keep(here, made[len(flags) :])
    return [Value(t, f) for t, f in zip(made, flags, strict=False)]


def _for_some(here, names, condition: tf.Tensor, inputs) -> list[Value]:
    """Does both branches for all clients, and chooses."""
    held = Held.of(here, inputs)
    taken, left = [], []
    for name, active in zip(names, (condition, ~condition), strict=True):
        if here.active is not None:
            active = tf.logical_and(active, here.active)
        inner = held.within(here, held.tensors(here), active=active)
        taken.append(inner.graph(function(name, inputs), inputs))
        left.append([Value(tensor, True) for tensor in held.tensors(inner)])
    chosen = [
        effects.chosen(condition, *pair).tensor for pair in zip(*left, strict=True)
    ]
    held.keep(here, chosen)
    return [effects.chosen(condition, *pair) for pair in zip(*taken, strict=True)]


def loop(here, op: tf.Operation, inputs: list[Value]) -> list[Value]:
    """Does a `While`; `here` is the `Vectorizer` of its place."""
    condition = function(op.get_attr('cond').name, inputs)
    body = function(op.get_attr('body').name, inputs)
    same = bodies.unchanged(body)
    flags, before = [v.batched for v in inputs], None
    while before != flags:
        before = flags
        mine = [v._replace(batched=f) for v, f in zip(inputs, flags, strict=True)]
        found = _flags(here, body, mine)
        flags = [a or b for a, b in zip(flags, found, strict=True)]
    alike = _flags(here, condition, mine) == [False]
    if not alike:
        flags = [v.batched or not s for v, s in zip(inputs, same, strict=True)]
    # Handles are the same at each step.
    states = [i for i, value in enumerate(inputs) if not is_token(value)]
    held = Held.of(here, inputs)

    def inner(tensors, active=here.active):
        """Returns where a step is done, and what it is given."""
        given = list(inputs)
        for i, tensor in zip(states, tensors, strict=False):
            given[i] = Value(tensor, flags[i])
        return held.within(here, tensors[len(states) :], active=active), given

    def after(place, made) -> list[tf.Tensor]:
        made = _stacked(made, flags, here.clients)
        return [*(made[i] for i in states), *held.tensors(place)]

    start = after(here, inputs)
    shapes = [
        batched_shape(body.outputs[i].shape) if flags[i] else body.outputs[i].shape
        for i in states
    ]
    shapes += [batched_shape(t.shape[1:]) for t in held.tensors(here)]

    def goes_on(tensors, active=here.active):
        place, given = inner(tensors, active)
        return place.graph(condition, given)[0]

    def step(tensors, active=here.active):
        place, given = inner(tensors, active)
        return after(place, place.graph(body, given))

    if alike:
        made = tf.while_loop(
            lambda *tensors: goes_on(tensors).tensor,
            lambda *tensors: step(tensors),
            start,
            shape_invariants=shapes,
            parallel_iterations=1,
        )
    else:
        kept = [same[i] for i in states] + [False] * (len(start) - len(states))
        batched = [flags[i] for i in states] + [True] * (len(start) - len(states))
        made = _while_any(here, goes_on, step, start, shapes, kept, batched)
    held.keep(here, made[len(states) :])
    _, results = inner(made)
    return results


def _while_any(here, goes_on, step, start, shapes, kept, batched) -> list[tf.Tensor]:
    """Goes on while any client does; who is done keeps its state."""

    def going_on(tensors, before):
        go = stack(goes_on(tensors, before), here.clients)
        return go if before is None else tf.logical_and(go, before)

    def of_active(active, *tensors):
        new = [
            old
            if same
            else effects.chosen(active, Value(t, flag), Value(old, flag)).tensor
            for t, old, same, flag in zip(
                step(tensors, active), tensors, kept, batched, strict=True
            )
        ]
        return (going_on(new, active), *new)

    _, *made = tf.while_loop(
        lambda active, *_: tf.reduce_any(active),
        of_active,
        (going_on(start, here.active), *start),
        shape_invariants=(tf.TensorShape([None]), *shapes),
        parallel_iterations=1,
    )
    return made


@dataclasses.dataclass(frozen=True)
class Held:
    """The variables that a branch, or a step of a loop, may change.

    Attributes:
      refs: Their handles', which hold something already.
    """

    refs: list

    @classmethod
    def of(cls, here, inputs: list[Value]) -> 'Held':
        """Finds them among the inputs."""
        return cls([ref for ref in refs(inputs) if ref in here.variables])

    def tensors(self, here) -> list[tf.Tensor]:
        """Returns what they hold."""
        return [here.variables[ref] for ref in self.refs]

    def within(self, here, tensors: Sequence[tf.Tensor], **changes):
        """Returns a place inside of another, with what they hold there."""
        variables = dict(zip(self.refs, tensors, strict=True))
        return dataclasses.replace(here, variables=variables, **changes)

    def keep(self, here, tensors: Sequence[tf.Tensor]) -> None:
        """Has them hold what they held at the end."""
        here.variables.update(zip(self.refs, tensors, strict=True))


def _stacked(
    values: list[Value], flags: list[bool], clients: tf.Tensor
) -> list[tf.Tensor]:
    return [
        stack(v, clients) if flag else v.tensor
        for v, flag in zip(values, flags, strict=True)
    ]


def _flags(here, graph, inputs: Sequence[Value]) -> list[bool]:
    """Returns which results of a graph are each client's."""
    with func_graph.FuncGraph('trial').as_default():
        active = here.active
        if active is not None:
            active = tf.compat.v1.placeholder(tf.bool, [None])
        variables = {
            ref: _stand_in(Value(tensor, True)).tensor
            for ref, tensor in here.variables.items()
        }
        trial = dataclasses.replace(
            here,
            clients=tf.compat.v1.placeholder(tf.int32, [1]),
            loops={
                name: dataclasses.replace(of, run=states_of(of.states))
                for name, of in here.loops.items()
            },
            active=active,
            variables=variables,
        )
        made = trial.graph(graph, [_stand_in(value) for value in inputs])
    return [v.batched for v in made]


def _of_one(value: Value) -> tf.TensorShape:
    """Returns what is known of the shape of one client's tensor."""
    shape = value.tensor.shape
    return shape[1:] if value.batched and shape.rank is not None else shape


def _stand_in(value: Value) -> Value:
    if is_token(value):
        return value
    shape = _of_one(value)
    shape = batched_shape(shape) if value.batched else shape
    return Value(tf.compat.v1.placeholder(value.tensor.dtype, shape), value.batched)

"""Rules of iterators: a loop that takes an element at each step is a pass over them.

`for batch in iter(dataset)` is a `While` that asks an iterator for an optional element,
does nothing if there is none, and then ends. Here all clients of a segment
(`schedules.Schedule`) have an element at each step, so that what the body does is known
while it is traced; once they have had all, it is done once more without any.
"""

from collections.abc import Callable

import tensorflow as tf

from tff_transfer.runtime.lockstep import bodies, control
from tff_transfer.runtime.lockstep.values import Node, Value, rule
from tff_transfer.runtime.lockstep.variables import of_token, refs, token


@rule('AnonymousIteratorV3')
def iterator(_: Node):
    """A handle, which no operation is done to."""
    return [token(tf.resource)]


@of_token('MakeIterator')
def make(node: Node):
    """Begins to read a dataset."""
    datasets = node.here.datasets
    datasets[node.ref(1)] = datasets[node.ref()]
    return []


@of_token('IteratorGetNextAsOptional')
def advance(node: Node):
    """The element of a step, or nothing after the last one."""
    datasets, ref = node.here.datasets, node.ref()
    if ref not in datasets or callable(datasets[ref]):
        raise ValueError('an iterator gives an element outside of a loop over it')
    optional = token(tf.variant)
    datasets[optional.tensor.ref()] = datasets.pop(ref)
    return [optional]


@of_token('OptionalHasValue')
def has_value(node: Node):
    """Whether a step has an element, which is known."""
    element = node.here.datasets[node.ref()]
    return [Value(tf.constant(element is not None), False)]


@of_token('OptionalGetValue')
def get_value(node: Node):
    """A step's element."""
    return list(node.here.datasets[node.ref()])


def loop(here, op: tf.Operation, inputs: list[Value], over: Callable) -> list[Value]:
    """Does a `While` that reads an iterator; `here` is the `Vectorizer` of its place.

    Args:
      here: Where.
      op: The operation.
      inputs: Its inputs.
      over: What does a step for each element of the dataset (`Batches.over`).

    Raises:
      ValueError: It may end before the dataset does, or reads several.
    """
    ref, *others = [r for r in refs(inputs) if r in here.datasets]
    if others:
        raise ValueError('a loop reads several datasets')
    body = control.function(op.get_attr('body').name, inputs)
    goes_on = _goes_on(control.function(op.get_attr('cond').name, inputs))

    def step(inner, given: list[Value], element: list[Value] | None):
        inner.datasets[ref] = element
        made = inner.graph(body, given)
        if tf.get_static_value(made[goes_on].tensor) != (element is not None):
            raise ValueError('a loop may end before its dataset does')
        return made

    shapes = [tensor.shape for tensor in body.outputs]
    after = over(here, inputs, bodies.unchanged(body), shapes, step)
    return step(here, after, None)


def _goes_on(condition) -> int:
    """Returns which input says whether a loop goes on, as nothing else does."""
    source = bodies.source(condition.outputs[0]).name
    names = [tensor.name for tensor in condition.inputs]
    if source not in names:
        raise ValueError('a loop over a dataset ends for another reason than its end')
    return names.index(source)

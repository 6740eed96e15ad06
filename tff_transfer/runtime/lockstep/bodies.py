"""The graphs of functions that a graph calls, and what is read off them."""

from collections.abc import Sequence

import tensorflow as tf
from tensorflow.python.eager import context as eager_context
from tensorflow.python.framework import function_def_to_graph


def graph(name: str, shapes: Sequence[tf.TensorShape] | None = None):
    """Returns the `FuncGraph` of a function by its name, for inputs of these shapes."""
    # What a function calls is looked up in the eager context.
    with tf.init_scope():
        definition = eager_context.context().get_function_def(name)
        return function_def_to_graph.function_def_to_graph(
            definition, input_shapes=shapes
        )


def unchanged(of) -> list[bool]:
    """Returns which results of a graph are its inputs at the same places."""
    pairs = zip(of.outputs, of.inputs, strict=False)
    return [source(result).name == given.name for result, given in pairs]


def needed(of) -> list[tf.Operation]:
    """Returns the operations that results or side effects depend on, in order."""
    todo = [t.op for t in of.outputs] + list(of.control_outputs)
    found = set()
    while todo:
        op = todo.pop()
        if op not in found:
            found.add(op)
            todo.extend(t.op for t in op.inputs)
            todo.extend(op.control_inputs)
    return [op for op in of.get_operations() if op in found]


def source(tensor: tf.Tensor) -> tf.Tensor:
    """Returns what identities hand on."""
    while tensor.op.type == 'Identity':
        tensor = tensor.op.inputs[0]
    return tensor

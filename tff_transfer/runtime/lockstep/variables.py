"""Rules of variables: what each client's hold is a value like others.

A handle stands for what `Here.variables` has by its `ref`; no variable is made.
"""

import functools

import tensorflow as tf
from tensorflow.python.framework import func_graph

from tff_transfer.runtime.lockstep.values import TOKEN_RULES, Node, Value, rule

_TOKENS = 'tokens'
of_token = functools.partial(rule, among=TOKEN_RULES)


def token(dtype: tf.DType) -> Value:
    """Makes what stands for something that is no tensor, such as a variable."""
    with func_graph.FuncGraph(_TOKENS).as_default():
        return Value(tf.compat.v1.placeholder(dtype, []), False)


def is_token(value: Value) -> bool:
    """Returns whether a value is a `token`, which no operation is done to."""
    return value.tensor.graph.name == _TOKENS


def refs(inputs: list[Value]) -> list:
    """Returns the `ref`s of the tokens among inputs, each once."""
    return list(dict.fromkeys(v.tensor.ref() for v in inputs if is_token(v)))


@rule('VarHandleOp')
def handle(_: Node):
    """A handle, which no operation is done to."""
    return [token(tf.resource)]


@of_token('VarIsInitializedOp')
def is_initialized(node: Node):
    """Whether a variable has been given a value, which all clients' have or none."""
    return [Value(tf.constant(node.ref() in node.here.variables), False)]


@of_token('AssignVariableOp')
def assign(node: Node):
    """Gives variables their values."""
    node.here.variables[node.ref()] = node.batched(1)
    return []


@of_token('AssignAddVariableOp')
def assign_add(node: Node):
    """Adds to variables."""
    node.here.variables[node.ref()] = _held(node) + node.batched(1)
    return []


@of_token('AssignSubVariableOp')
def assign_sub(node: Node):
    """Takes from variables."""
    node.here.variables[node.ref()] = _held(node) - node.batched(1)
    return []


@of_token('ReadVariableOp')
def read(node: Node):
    """What variables hold."""
    return _held(node)


@of_token('ResourceGather')
def gather(node: Node):
    """Entries of variables by their places."""
    return tf.gather(_held(node), node.places(1), batch_dims=1)


def _held(node: Node) -> tf.Tensor:
    if node.ref() not in node.here.variables:
        raise ValueError('a variable is read before it is given a value')
    return node.here.variables[node.ref()]

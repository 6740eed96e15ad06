"""Rules of variables: what each client's hold is a value like others.

A handle stands for what `Here.variables` has by its `ref`; no variable is made.
"""

import tensorflow as tf
from tensorflow.python.framework import func_graph

from tff_transfer.runtime.lockstep.values import Node, Value, rule

_TOKENS = 'tokens'
# What is done to a handle.
OPERATIONS = (
    'AssignAddVariableOp', 'AssignSubVariableOp', 'AssignVariableOp', 'ReadVariableOp',
    'ResourceGather', 'VarIsInitializedOp',
)  # fmt: skip


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


@rule('VarIsInitializedOp')
def is_initialized(node: Node):
    """Whether a variable has been given a value, which all clients' have or none."""
    return [Value(tf.constant(_ref(node) in node.here.variables), False)]


@rule('AssignVariableOp')
def assign(node: Node):
    """Gives variables their values."""
    node.here.variables[_ref(node)] = node.batched(1)
    return []


@rule('AssignAddVariableOp')
def assign_add(node: Node):
    """Adds to variables."""
    node.here.variables[_ref(node)] = _held(node) + node.batched(1)
    return []


@rule('AssignSubVariableOp')
def assign_sub(node: Node):
    """Takes from variables."""
    node.here.variables[_ref(node)] = _held(node) - node.batched(1)
    return []


@rule('ReadVariableOp')
def read(node: Node):
    """What variables hold."""
    return tf.identity(_held(node))


@rule('ResourceGather')
def gather(node: Node):
    """Entries of variables by their places."""
    return tf.gather(_held(node), node.places(1), batch_dims=1)


def _ref(node: Node):
    return node.inputs[0].tensor.ref()


def _held(node: Node) -> tf.Tensor:
    if _ref(node) not in node.here.variables:
        raise ValueError('a variable is read before it is given a value')
    return node.here.variables[_ref(node)]

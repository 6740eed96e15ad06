"""Aggregations that append each client's value as rows: values side by side.

`tff.federated_aggregate` can give the server all clients' values by an accumulator that
grows, `tf.concat([rows, value[tf.newaxis]], 0)`, merged by `tf.concat([a, b], 0)`. Run
as it stands it would copy all earlier rows for each client. What is seen to do that and
nothing else is not run: rows are kept as other values of clients are.
"""

from collections import ChainMap
from collections.abc import Callable

import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.core.impl.compiler import building_blocks as bb

from tff_transfer.runtime import layouts
from tff_transfer.runtime.interpreter import Interpreter
from tff_transfer.runtime.plan import Plan
from tff_transfer.runtime.sequences import leaves, pack


def rows_of(plan: Plan, name: str, interpreter: Interpreter) -> tuple[int, ...] | None:
    """Returns which tensor of a client's value each tensor of a state has as a row.

    Args:
      plan: The computation.
      name: One of its aggregations.
      interpreter: Evaluates its functions.

    Returns:
      The numbers of the value's tensors, one a tensor of the state; None if the
      aggregation does anything else.
    """
    call = plan.calls[name]
    argument = call.argument
    if call.function.uri != 'federated_aggregate' or not isinstance(
        argument, bb.Struct
    ):
        return None
    value, zero, accumulate, merge, _ = argument
    value_type, state_type = value.type_signature.member, merge.type_signature.result
    values, states = layouts.leaf_types(value_type), layouts.leaf_types(state_type)
    zeros = layouts.leaf_types(zero.type_signature)
    if plan.references(accumulate) or plan.references(merge):
        return None
    if not all(_is_tensor(leaf, open_rows=False) for leaf in values):
        return None
    if not all(_is_tensor(leaf, open_rows=True) for leaf in states):
        return None
    if not all(leaf.shape and leaf.shape[0] == 0 for leaf in zeros):
        return None
    appended = _joined(interpreter, accumulate, state_type, value_type)
    merged = _joined(interpreter, merge, state_type, state_type)
    count = len(states)
    if None in appended or merged != [(i, count + i, False) for i in range(count)]:
        return None
    if any((old, new) != (i, True) for i, (old, _, new) in enumerate(appended)):
        return None
    return tuple(number - count for _, number, _ in appended)


def _is_tensor(leaf: tff.Type, open_rows: bool) -> bool:
    if not isinstance(leaf, tff.TensorType) or leaf.shape is None:
        return False
    if open_rows:
        return bool(leaf.shape) and leaf.shape[0] is None and None not in leaf.shape[1:]
    return None not in leaf.shape


def _joined(
    interpreter: Interpreter, block: bb.ComputationBuildingBlock, *types: tff.Type
) -> list[tuple[int, int, bool] | None]:
    """Returns which inputs a function joins along their first axis to each output.

    Args:
      interpreter: Evaluates it.
      block: The function, of two values.
      types: Their types.

    Returns:
      For each output the numbers of two inputs, and whether the second is one row;
      None for an output of another kind.
    """
    specs = [spec for each in types for spec in layouts.specs(each)]

    def run(*flat):
        flat = iter(flat)
        function: Callable = interpreter.evaluate(block, ChainMap())
        argument = pack(flat, tff.StructType(list(types)))
        with interpreter.keys.at(lambda: tf.zeros([1], tf.uint64)):
            return leaves(function(argument))

    traced = tf.function(run, input_signature=specs, autograph=False)
    graph = traced.get_concrete_function().graph
    numbers = {tensor.op.name: i for i, tensor in enumerate(graph.inputs)}
    return [_concatenated(tensor, numbers) for tensor in graph.outputs]


def _concatenated(tensor: tf.Tensor, numbers: dict[str, int]):
    made = _source(tensor)
    if made.type != 'ConcatV2' or len(made.inputs) != 3 or not _is_zero(made.inputs[2]):
        return None
    first, second = map(_source, made.inputs[:2])
    one = second.type == 'ExpandDims' and _is_zero(second.inputs[1])
    if one:
        second = _source(second.inputs[0])
    if first.name not in numbers or second.name not in numbers:
        return None
    return numbers[first.name], numbers[second.name], one


def _source(tensor: tf.Tensor) -> tf.Operation:
    while tensor.op.type == 'Identity':
        tensor = tensor.op.inputs[0]
    return tensor.op


def _is_zero(tensor: tf.Tensor) -> bool:
    value = tf.get_static_value(_source(tensor).outputs[0])
    return value is not None and value == 0

"""Skips the packing of bits where packed values are unpacked at once.

`tff.learning.compression_aggregator` quantizes updates with TensorFlow Model
Optimization's `tensor_encoding`, whose `BitpackingEncodingStage` then packs several
integers into one for the network, without a loss. Here a client's values go no
further than the same function, which unpacks them again before it adds them up: that
took half of the aggregator's time. Stages are known by the scopes of their names.
"""

from collections.abc import Mapping

import tensorflow as tf

from tff_transfer.graphs import graph_defs

_PACK, _UNPACK = 'bitpacking_encode/', 'bitpacking_decode/'


def unpacked(graph: graph_defs.GraphDef, feeds: Mapping[str, tf.Tensor]) -> dict:
    """Returns what to feed in the place of unpacked values.

    Args:
      graph: A computation's graph that may unpack its arguments.
      feeds: Its arguments by the names of its tensors.

    Returns:
      The integers that were packed, by the names of those they would be unpacked to;
      none where an argument does not come straight from the packing stage.
    """
    nodes = {node.name: node for node in graph.node}
    arguments = {graph_defs.node_of(name): tensor for name, tensor in feeds.items()}
    found = {}
    for node in graph.node:
        if node.op != 'Cast' or _UNPACK not in node.name:
            continue
        # The stage ends with the cast of the reshaped integers.
        last = nodes[graph_defs.node_of(node.input[0])]
        used = graph_defs.ancestors(graph, node.name) & arguments.keys()
        if last.op == 'Reshape' and len(used) == 1:
            integers = _packed(arguments[used.pop()])
            if integers is not None:
                found[last.input[0]] = integers
    return found


def _packed(tensor: tf.Tensor) -> tf.Tensor | None:
    """Returns the flat integers that the packing stage made a tensor of."""
    if not tf.is_symbolic_tensor(tensor):
        return None
    sources, todo, seen = [], [tensor.op], set()
    while todo:
        op = todo.pop()
        if op.name in seen:
            continue
        seen.add(op.name)
        if op.type == 'Cast' and _PACK in op.name and op.inputs[0].dtype.is_floating:
            sources.append(op.outputs[0])
        elif _PACK in op.name or op.type == 'Identity':
            todo.extend(t.op for t in op.inputs)
        else:
            return None
    return sources[0] if len(sources) == 1 else None

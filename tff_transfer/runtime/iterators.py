"""Iterators over datasets as positions in arrays.

`for batch in iter(dataset)` becomes a handle, which `MakeIterator` binds to a dataset
and `IteratorGetNextAsOptional` advances, somewhere in the body of a loop. Here the
handle is that of a variable, which holds the position, the end and the arrays, packed
as an optional: so nothing but these three kinds of node changes.
"""

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.graphs import graph_defs, graph_functions
from tff_transfer.runtime import layouts
from tff_transfer.runtime.sequences import as_nest, element_at

_UNKNOWN = (
    'AnonymousIteratorV2',
    'IteratorGetNext',
    'IteratorGetNextSync',
    'IteratorV2',
    'OneShotIterator',
)


class Iterators:
    """What the iterator nodes of a graph are replaced by.

    Attributes:
      start: A concrete function of a handle, the first and the last position and the
        arrays, that takes the place of `MakeIterator`.
      graph: The graph with handles and calls for the other nodes.
    """

    def __init__(self, graph, element_type: tff.Type):
        specs = [
            tf.TensorSpec([], tf.int64),
            tf.TensorSpec([], tf.int64),
            *(
                spec
                for leaf in layouts.leaf_types(element_type)
                for spec in layouts.concatenated_specs(leaf)
            ),
        ]
        handle = tf.TensorSpec([], tf.resource)
        self.start = tf.function(_pack, autograph=False).get_concrete_function(
            handle, *specs
        )
        self._advance = tf.function(
            lambda handle: _advance(handle, specs, element_type), autograph=False
        ).get_concrete_function(handle)
        self.graph = graph_defs.GraphDef()
        self.graph.CopyFrom(graph)
        self._replace(self.graph.node)
        for function in self.graph.library.function:
            renamed = self._replace(function.node_def)
            graph_functions.rename_tensors(function, renamed)
        graph_functions.isolate_functions(self.graph)

    def _replace(self, nodes) -> dict[str, str]:
        """Replaces nodes in place; returns the new names of functions' tensors."""
        renamed = {}
        for node in nodes:
            if node.op == 'AnonymousIteratorV3':
                new = tf.compat.v1.NodeDef(name=node.name, op='VarHandleOp')
                new.attr['dtype'].type = tf.variant.as_datatype_enum
                new.attr['shape'].shape.CopyFrom(tf.TensorShape([]).as_proto())
                new.attr['shared_name'].s = graph_defs.ANONYMOUS.encode()
                new.input.extend(i for i in node.input if i.startswith('^'))
                node.CopyFrom(new)
            elif node.op == 'IteratorGetNextAsOptional':
                inputs = list(node.input)
                advance = self._advance.function_def
                node.CopyFrom(graph_functions.call(node.name, advance, inputs))
                renamed[f'{node.name}:optional:0'] = f'{node.name}:output:0'
        return renamed


def element_type_of(graph, sequences: dict[str, tff.Type]) -> tff.Type | None:
    """Returns the type of what a graph iterates over, if it can be rewritten.

    Args:
      graph: The graph, with its calls inlined.
      sequences: The element types of its sequence parameters by node.
    """
    used = graph_functions.reachable_functions(graph).values()
    nodes = [*graph.node, *(n for f in used for n in f.node_def)]
    if any(node.op in _UNKNOWN for node in nodes):
        return None
    made = [node for node in nodes if node.op == 'MakeIterator']
    top = [node for node in graph.node if node.op == 'MakeIterator']
    types = [sequences.get(graph_defs.node_of(node.input[0])) for node in top]
    if not top or len(made) > len(top) or None in types:
        return None
    return types[0] if all(t.is_equivalent_to(types[0]) for t in types) else None


def _pack(handle, *parts):
    packed = tf.raw_ops.OptionalFromValue(components=parts)
    tf.raw_ops.AssignVariableOp(resource=handle, value=packed)
    return []


def _advance(handle, specs, element_type):
    packed = tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.variant)
    position, last, *arrays = tf.raw_ops.OptionalGetValue(
        optional=packed,
        output_types=[s.dtype for s in specs],
        output_shapes=[s.shape for s in specs],
    )
    packed = tf.raw_ops.OptionalFromValue(components=[position + 1, last, *arrays])
    assign = tf.raw_ops.AssignVariableOp(resource=handle, value=packed)

    def some():
        element = as_nest(element_at(element_type, arrays, position), element_type)
        return tf.raw_ops.OptionalFromValue(components=tf.nest.flatten(element))

    with tf.control_dependencies([assign]):
        position = tf.identity(position)
        return tf.cond(position < last, some, tf.raw_ops.OptionalNone)

"""Products of float32 tensors in a shorter dtype, as mixed precision has them.

Micikevicius et al. 2018, "Mixed precision training": weights, sums and everything that
is no product stay in float32. Grappler's `auto_mixed_precision_onednn_bfloat16` is no
way to that: here weights are the state of a loop, and it shortens them too.
"""

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from tff_transfer.graphs import graph_defs, graph_functions

_SINGLE = tf.float32.as_datatype_enum
# Operations by their inputs that are multiplied.
_PRODUCTS = {
    'MatMul': (0, 1),
    'BatchMatMul': (0, 1),
    'BatchMatMulV2': (0, 1),
    'Conv2D': (0, 1),
    'Conv2DBackpropInput': (1, 2),
    'Conv2DBackpropFilter': (0, 2),
    'DepthwiseConv2dNative': (0, 1),
    'DepthwiseConv2dNativeBackpropInput': (1, 2),
    'DepthwiseConv2dNativeBackpropFilter': (0, 2),
    'Einsum': (0, 1),
    'Conv3D': (0, 1),
    'Conv3DBackpropInputV2': (1, 2),
    'Conv3DBackpropFilterV2': (0, 2),
}


def shorten_products(graph: graph_defs.GraphDef, dtype: tf.DType) -> None:
    """Rounds what products of float32 multiply and give to a dtype, in place.

    Args:
      graph: The graph; its library's functions are changed too.
      dtype: `tf.bfloat16` or `tf.float16`.
    """
    _shorten(graph.node, dtype, in_function=False)
    for function in graph.library.function:
        renamed = _shorten(function.node_def, dtype, in_function=True)
        graph_functions.rename_tensors(function, renamed)


def _shorten(nodes, dtype: tf.DType, in_function: bool) -> dict[str, str]:
    """Changes nodes in place; returns the new names of a function's tensors."""
    renamed = {}
    for node in list(nodes):
        if node.op not in _PRODUCTS or node.attr['T'].type != _SINGLE:
            continue
        name = node.name
        for i in _PRODUCTS[node.op]:
            short = f'{name}/short_{i}'
            _add_cast(nodes, short, node.input[i], tf.float32, dtype)
            node.input[i] = f'{short}:y:0' if in_function else short
        node.attr['T'].type = dtype.as_datatype_enum
        node.name = f'{name}/product'
        (output,) = op_def_registry.get(node.op).output_arg
        result = f'{node.name}:{output.name}:0' if in_function else node.name
        # The cast back takes the name of the product, which others read.
        _add_cast(nodes, name, result, dtype, tf.float32)
        renamed[f'{name}:{output.name}:0'] = f'{name}:y:0'
    return renamed


def _add_cast(nodes, name: str, tensor: str, source: tf.DType, target: tf.DType):
    node = nodes.add(name=name, op='Cast', input=[tensor])
    node.attr['SrcT'].type = source.as_datatype_enum
    node.attr['DstT'].type = target.as_datatype_enum

"""The functions of a `GraphDef`'s library: which are used, and calls of them."""

import itertools
from collections.abc import Callable

import tensorflow as tf
from tensorflow.core.framework import function_pb2
from tensorflow.python.eager import context as eager_context
from tensorflow.python.framework import function_def_to_graph, op_def_registry

from tff_transfer.graphs.graph_defs import GraphDef, node_of

CALLS = ('PartitionedCall', 'StatefulPartitionedCall')
_numbers = itertools.count()


def function_names(node) -> list[str]:
    """Returns the library functions that a node's attributes name."""
    names = []
    for attr in node.attr.values():
        functions = (
            [attr.func] if attr.WhichOneof('value') == 'func' else attr.list.func
        )
        names.extend(f.name for f in functions if f.name)
    return names


def reachable_functions(graph: GraphDef, nodes=None) -> dict:
    """Returns by name the functions of the library that nodes use, or use in turn."""
    library = {f.signature.name: f for f in graph.library.function}
    found = {}
    todo = list(graph.node if nodes is None else nodes)
    while todo:
        node = todo.pop()
        for name in [*function_names(node), node.op]:
            if name in library and name not in found:
                found[name] = library[name]
                todo.extend(library[name].node_def)
    return found


def is_stateful(graph: GraphDef, function: str) -> bool:
    """Returns whether a library function, or one it uses, has side effects."""
    library = {f.signature.name: f for f in graph.library.function}
    used = reachable_functions(graph, library[function].node_def)
    for body in [library[function], *used.values()]:
        for node in body.node_def:
            op = op_def_registry.get(node.op)
            call = node.op in CALLS or node.op in ('If', 'While', 'Case')
            if op is not None and op.is_stateful and not call:
                return True
    return False


def rename_tensors(function, renamed: dict[str, str]) -> None:
    """Has a function's nodes and results name tensors otherwise, in place."""
    for node in function.node_def:
        for i, tensor in enumerate(node.input):
            node.input[i] = renamed.get(tensor, tensor)
    for name, tensor in list(function.ret.items()):
        function.ret[name] = renamed.get(tensor, tensor)


def drop_unused(graph: GraphDef) -> dict:
    """Keeps the functions that nodes use, or use in turn, in place; returns these."""
    used = reachable_functions(graph)
    del graph.library.function[:]
    graph.library.function.extend(used.values())
    return used


def isolate_functions(graph: GraphDef) -> None:
    """Gives the library's functions names of their own and registers them, in place.

    Functions of two computations have the same names, and a function that is called
    by one that was traced is looked for in the eager context alone.
    """
    used = drop_unused(graph)
    del graph.library.gradient[:]
    prefix = f'tff{next(_numbers)}_'

    def rename(nodes):
        for node in nodes:
            for attr in node.attr.values():
                one = attr.WhichOneof('value') == 'func'
                for func in [attr.func] if one else attr.list.func:
                    if func.name in used:
                        func.name = prefix + func.name
            if node.op in used:
                node.op = prefix + node.op

    rename(graph.node)
    for function in graph.library.function:
        rename(function.node_def)
        function.signature.name = prefix + function.signature.name
        for name in list(function.attr):
            if name in (
                'forward_function_name',
                'backward_function_name',
                'api_implements',
                'api_preferred_device',
            ):
                del function.attr[name]
        eager_context.context().add_function_def(function)


def inline_calls(graph: GraphDef, wanted: Callable[[object], bool]) -> None:
    """Replaces calls, in place, by what they call.

    Args:
      graph: The graph, of which no node is called as an operation by its name.
      wanted: Whether a function's body is to stand in the graph, by its FunctionDef.
    """
    library = {f.signature.name: f for f in graph.library.function}

    def is_wanted(node) -> bool:
        return node.op in CALLS and wanted(library[node.attr['f'].func.name])

    # One at a time: what a call takes changes when another one is replaced.
    while (call := next(filter(is_wanted, graph.node), None)) is not None:
        _inline(graph, call, library[call.attr['f'].func.name])


def _inline(graph: GraphDef, call, function) -> None:
    body, names = function_def_to_graph.function_def_to_graph_def(function)
    prefix = f'{call.name}/'
    values = [i for i in call.input if not i.startswith('^')]
    before = [i for i in call.input if i.startswith('^')]
    arguments = {
        arg.name: value
        for arg, value in zip(function.signature.input_arg, values, strict=True)
    }

    def moved(tensor):
        if tensor.startswith('^'):
            return None if tensor[1:] in arguments else f'^{prefix}{tensor[1:]}'
        return arguments.get(node_of(tensor), prefix + tensor)

    results = [
        moved(names.get(function.ret[r.name], function.ret[r.name]))
        for r in function.signature.output_arg
    ]
    done = [f'^{prefix}{name}' for name in function.control_ret.values()]
    # What depended on the call as a whole depends on its side effects and results.
    after = done + sorted({f'^{node_of(r)}' for r in results})

    def outside(tensor):
        if tensor.startswith('^'):
            return after if tensor[1:] == call.name else [tensor]
        name, _, index = tensor.partition(':')
        return [results[int(index or 0)]] if name == call.name else [tensor]

    rest = GraphDef()
    for node in graph.node:
        if node.name != call.name:
            _set_inputs(node, [i for old in node.input for i in outside(old)])
            rest.node.append(node)
    for node in body.node:
        if node.name not in arguments:
            inputs = [moved(i) for i in node.input]
            node.name = prefix + node.name
            _set_inputs(node, [i for i in inputs if i is not None] + before)
            rest.node.append(node)
    del graph.node[:]
    graph.node.extend(rest.node)


def _set_inputs(node, inputs: list[str]) -> None:
    """Sets a node's inputs, control inputs last and once each."""
    control = dict.fromkeys(i for i in inputs if i.startswith('^'))
    values = [i for i in inputs if not i.startswith('^')]
    del node.input[:]
    node.input.extend([*values, *control])


def call(name: str, function, inputs: list[str], stateful: bool = True):
    """Returns the node that calls a function.

    Args:
      name: The node's name.
      function: The `FunctionDef`.
      inputs: The function's inputs, then control inputs.
      stateful: Whether the function has side effects.
    """
    signature = function.signature
    node = tf.compat.v1.NodeDef(name=name, input=inputs)
    node.op = 'StatefulPartitionedCall' if stateful else 'PartitionedCall'
    node.attr['Tin'].list.type.extend(a.type for a in signature.input_arg)
    node.attr['Tout'].list.type.extend(a.type for a in signature.output_arg)
    node.attr['f'].func.name = signature.name
    return node


def hide(node) -> None:
    """Puts a `ReduceDataset` node into a function of its own and calls that, in place.

    TensorFlow's automatic control dependencies look for the variables of such a node
    for ever if it was imported: it finds other objects for its inputs each time.
    """
    states = node.attr['Tstate'].list.type
    dtypes = [tf.variant.as_datatype_enum, *states, *node.attr['Targuments'].list.type]
    function = function_pb2.FunctionDef()
    function.signature.name = f'tff{next(_numbers)}_reduce'
    function.signature.is_stateful = True
    inner = function.node_def.add()
    inner.CopyFrom(node)
    inner.name = 'reduce'
    del inner.input[:]
    for i, dtype in enumerate(dtypes):
        function.signature.input_arg.add(name=f'input_{i}', type=dtype)
        inner.input.append(f'input_{i}')
    for i, dtype in enumerate(states):
        function.signature.output_arg.add(name=f'output_{i}', type=dtype)
        function.ret[f'output_{i}'] = f'reduce:components:{i}'
    function.control_ret['reduce'] = 'reduce'
    function.signature.control_output.append('reduce')
    eager_context.context().add_function_def(function)
    outer = tf.compat.v1.NodeDef(name=node.name, input=node.input)
    outer.op = 'StatefulPartitionedCall'
    outer.attr['Tin'].list.type.extend(dtypes)
    outer.attr['Tout'].list.type.extend(states)
    outer.attr['f'].func.name = function.signature.name
    node.CopyFrom(outer)

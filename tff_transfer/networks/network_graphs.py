"""From a traced network's graph to one whose variables are placeholders."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_transfer.errors import UserError
from tff_transfer.graphs import graph_defs, graph_functions

# What differs between two loadings of one network, or between two machines.
_INCIDENTAL_ATTRIBUTES = frozenset(
    ['shared_name', 'container', 'config', 'config_proto', 'executor_type']
)


def cut_off(graph, cut: str, spec: tf.TensorSpec):
    """Returns a graph in which a node is an input instead."""
    made = tf.compat.v1.GraphDef()
    made.CopyFrom(graph)
    for node in made.node:
        if node.name == cut:
            del node.input[:]
            node.op = 'Placeholder'
            node.attr.clear()
            node.attr['dtype'].type = spec.dtype.as_datatype_enum
            node.attr['shape'].shape.CopyFrom(spec.shape.as_proto())
    return made


def inline(graph) -> None:
    """Replaces calls, and branches that are known beforehand, by what they do.

    SavedModels that take `training` as a tensor branch on it.
    """
    while True:
        graph_functions.inline_calls(graph, lambda function: True)
        nodes = {node.name: node for node in graph.node}
        known = [
            (node, condition)
            for node in graph.node
            if node.op in ('If', 'StatelessIf')
            and (condition := _source(nodes, node.input[0])).op == 'Const'
        ]
        if not known:
            return
        for node, condition in known:
            holds = tf.make_ndarray(condition.attr['value'].tensor)
            taken = node.attr['then_branch' if holds else 'else_branch'].func.name
            node.op = 'PartitionedCall'
            node.attr['f'].func.name = taken
            inputs = node.input[1:]
            del node.input[:]
            node.input.extend(inputs)


def _source(nodes: dict, tensor: str):
    """Returns the node that a tensor comes from, past identities."""
    node = nodes[graph_defs.node_of(tensor)]
    while node.op == 'Identity':
        node = nodes[graph_defs.node_of(node.input[0])]
    return node


def drop_side_effects(graph, wanted: Sequence[str]) -> None:
    """Keeps what tensors are computed from, in place."""
    for node in graph.node:
        # Order matters to side effects alone.
        data = [source for source in node.input if not source.startswith('^')]
        del node.input[:]
        node.input.extend(data)
    graph_defs.prune(graph, wanted)


# What an assignment makes of the value before, by its operation.
_ASSIGNMENTS = {
    'AssignVariableOp': None,
    'AssignAddVariableOp': 'AddV2',
    'AssignSubVariableOp': 'Sub',
}


def moves(graph, variables: dict) -> dict:
    """Adds, in place, what the graph's assignments give variables.

    Args:
      graph: The graph, without calls.
      variables: Variables by the names of the nodes that give their handles.

    Returns:
      By variable, the tensor that is its value afterwards.

    Raises:
      UserError: A variable is assigned more than once.
    """
    nodes = {node.name: node for node in graph.node}
    made = {}
    for node in list(graph.node):
        if node.op not in _ASSIGNMENTS:
            continue
        moved = variables.get(_source(nodes, node.input[0]).name)
        if moved is None:
            continue
        if moved in made:
            raise UserError(
                f'the network moves {moved.name} more than once in a step, as a layer'
                ' that is used twice does; its BatchNorm can only stay frozen'
            )
        made[moved] = node.input[1]
        if (operation := _ASSIGNMENTS[node.op]) is not None:
            dtype = tf.as_dtype(moved.value.dtype).as_datatype_enum
            before = graph.node.add(
                name=f'{node.name}/before', op='ReadVariableOp', input=node.input[:1]
            )
            before.attr['dtype'].type = dtype
            after = graph.node.add(
                name=f'{node.name}/after',
                op=operation,
                input=[before.name, node.input[1]],
            )
            after.attr['T'].type = dtype
            made[moved] = after.name
    return made


def set_constants(graph, values: dict[str, np.ndarray]) -> None:
    """Makes constants of nodes, in place."""
    for node in graph.node:
        if node.name in values:
            made = tf.make_tensor_proto(values[node.name])
            node.op = 'Const'
            node.attr.clear()
            node.attr['value'].tensor.CopyFrom(made)
            node.attr['dtype'].type = made.dtype


def replace_reads(graph, variables: dict) -> dict:
    """Makes placeholders of what reads variables, in place.

    Args:
      graph: The graph.
      variables: Variables by the names of the nodes that give their handles.

    Returns:
      The variables that are read by the names of their placeholders, in the order of
      `variables`.
    """
    nodes = {node.name: node for node in graph.node}
    reads = {
        node.name: found
        for node in graph.node
        if node.op == 'ReadVariableOp'
        and (found := variables.get(_source(nodes, node.input[0]).name)) is not None
    }
    used = set(reads.values())
    read = [v for v in variables.values() if v in used]
    places = {v: f'functional/weight_{number}' for number, v in enumerate(read)}
    for node in graph.node:
        for number, source in enumerate(node.input):
            found = reads.get(graph_defs.node_of(source))
            if found is not None:
                node.input[number] = places[found]
    for found, place in places.items():
        node = graph.node.add(name=place, op='Placeholder')
        node.attr['dtype'].type = tf.as_dtype(found.value.dtype).as_datatype_enum
        node.attr['shape'].shape.CopyFrom(tf.TensorShape(found.value.shape).as_proto())
    return {place: found for found, place in places.items()}


def digest(hashed, graph) -> None:
    """Adds a graph's operations, their wiring and their constants, without names.

    Args:
      hashed: Takes the bytes, as `hashlib.sha256()` does.
      graph: The graph.
    """
    functions = {f.signature.name: f for f in graph.library.function}
    _digest_nodes(hashed, graph.node, [], functions)


def _digest_nodes(hashed, nodes, arguments, functions) -> None:
    names = [*arguments, *(node.name for node in nodes)]
    place = {name: str(number) for number, name in enumerate(names)}

    def wire(source: str) -> bytes:
        name, *output = source.lstrip('^').split(':')
        return ':'.join([place[name], *output]).encode()

    def call(name: str) -> None:
        function = functions[name]
        inside = [argument.name for argument in function.signature.input_arg]
        _digest_nodes(hashed, function.node_def, inside, functions)

    for node in nodes:
        hashed.update(b'call' if node.op in functions else node.op.encode())
        for source in node.input:
            hashed.update(wire(source))
        for key in sorted(node.attr):
            if key.startswith('_') or key in _INCIDENTAL_ATTRIBUTES:
                continue
            value = node.attr[key]
            called = [value.func] if value.HasField('func') else value.list.func
            for function in called:
                call(function.name)
            if not called:
                hashed.update(key.encode())
                hashed.update(value.SerializeToString(deterministic=True))
        if node.op in functions:
            call(node.op)

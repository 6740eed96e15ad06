"""Rewrites of `GraphDef`s, so that a TFF computation's graph can be imported."""

from collections.abc import Iterable

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

GraphDef = tf.compat.v1.GraphDef

# The shared name with which a node makes a resource of its own each time it runs,
# ResourceHandle::ANONYMOUS_NAME of TensorFlow.
ANONYMOUS = 'cd2c89b7-88b7-44c8-ad83-06c2a9158347'


def node_of(tensor: str) -> str:
    """Returns the node's name of an input: `a:1`, `a` or `^a`."""
    return tensor.lstrip('^').partition(':')[0]


def prune(graph: GraphDef, targets: Iterable[str]) -> None:
    """Keeps the nodes that tensors or operations depend on, in place."""
    inputs = {node.name: node.input for node in graph.node}
    needed, todo = set(), [node_of(t) for t in targets]
    while todo:
        name = todo.pop()
        if name not in needed:
            needed.add(name)
            todo.extend(node_of(i) for i in inputs[name])
    kept = [node for node in graph.node if node.name in needed]
    del graph.node[:]
    graph.node.extend(kept)


def skip_identities(graph: GraphDef) -> None:
    """Has the inputs of nodes name what identity nodes only hand on, in place."""
    # One with a control input stands for an order, as after an assertion.
    source = {
        n.name: n.input[0]
        for n in graph.node
        if n.op == 'Identity' and len(n.input) == 1
    }
    for node in graph.node:
        for i, tensor in enumerate(node.input):
            while not tensor.startswith('^') and node_of(tensor) in source:
                tensor = source[node_of(tensor)]
            node.input[i] = tensor


def sum_finite_checks(graph: GraphDef) -> None:
    """Has `reduce_all(is_finite(x))` look at the sums of `x - x`, in place.

    These are 0, or NaN where a number of `x` is not finite. TensorFlow takes ten times
    as long to make a boolean of each number and reduce those; TFF's weighted averaging
    does so for each client's update.
    """
    for nodes in [graph.node, *(f.node_def for f in graph.library.function)]:
        checks = {n.name: n for n in nodes if n.op == 'IsFinite'}
        for every in [n for n in nodes if n.op == 'All']:
            check = checks.get(node_of(every.input[0]))
            if check is None:
                continue
            zeros, sums, finite = (
                nodes.add(name=f'{every.name}/{op}', op=op)
                for op in ('Sub', 'Sum', 'IsFinite')
            )
            for node in (zeros, sums, finite):
                node.attr['T'].CopyFrom(check.attr['T'])
            sums.attr['keep_dims'].b = True
            sums.attr['Tidx'].CopyFrom(every.attr['Tidx'])
            # Inside a function the name of a node's result belongs to the tensor's.
            result = nodes is not graph.node
            zeros.input.extend([check.input[0], check.input[0]])
            sums.input.extend([zeros.name + ':z:0' * result, every.input[1]])
            finite.input.append(sums.name + ':output:0' * result)
            every.input[0] = finite.name + ':y:0' * result


def ancestors(graph: GraphDef, target: str) -> set[str]:
    """Returns the names of the nodes that one depends on, and its own."""
    part = GraphDef()
    part.node.extend(graph.node)
    prune(part, [target])
    return {node.name for node in part.node}


def stateful_nodes(graph: GraphDef) -> tuple[str, ...]:
    """Returns the names of a graph's own nodes that have side effects."""
    return tuple(
        node.name
        for node in graph.node
        if node.op != 'Placeholder'
        and (op := op_def_registry.get(node.op)) is not None
        and op.is_stateful
    )


def detach(graph: GraphDef) -> None:
    """Removes devices and colocation, in place: placement is the caller's."""
    for nodes in [graph.node, *(f.node_def for f in graph.library.function)]:
        for node in nodes:
            node.device = ''
            if '_class' in node.attr:
                del node.attr['_class']


def own_resources(graph: GraphDef, initialize: str | None) -> None:
    """Makes each run of a graph use variables and tables of its own, in place.

    A session runs the initialiser first and shares variables by name. Here the
    graph is one function, run by several threads: handles are anonymous, and what
    does not belong to the initialiser gets them only once that is done.

    Args:
      graph: The graph, pruned.
      initialize: The initialiser's name, or None.
    """
    handles = [
        node.name
        for node in graph.node
        if node.op in ('VarHandleOp', 'HashTableV2', 'MutableHashTableV2')
    ]
    for node in graph.node:
        if node.op == 'VarHandleOp':
            node.attr['shared_name'].s = ANONYMOUS.encode()
        elif node.name in handles:
            node.op = node.op.replace('HashTableV2', 'HashTable')
            node.op = f'Anonymous{node.op}'
            for name in ('container', 'shared_name', 'use_node_name_sharing'):
                if name in node.attr:
                    del node.attr[name]
    if not initialize:
        return
    first = ancestors(graph, initialize)
    for node in graph.node:
        if node.name not in first:
            for i, tensor in enumerate(node.input):
                if not tensor.startswith('^') and node_of(tensor) in handles:
                    node.input[i] = f'{node_of(tensor)}/initialized'
    for name in handles:
        ready = graph.node.add()
        ready.name, ready.op = f'{name}/initialized', 'Identity'
        ready.attr['T'].type = tf.resource.as_datatype_enum
        ready.input.extend([name, f'^{node_of(initialize)}'])

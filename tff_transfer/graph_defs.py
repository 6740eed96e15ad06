"""Rewrites of `GraphDef`s, so that a TFF computation's graph can be imported."""

import itertools
from collections.abc import Callable, Iterable

import tensorflow as tf
from tensorflow.core.framework import function_pb2
from tensorflow.python.eager import context as eager_context
from tensorflow.python.framework import function_def_to_graph, op_def_registry

GraphDef = tf.compat.v1.GraphDef

_CALLS = ('PartitionedCall', 'StatefulPartitionedCall')
# The shared name with which a node makes a resource of its own each time it runs,
# ResourceHandle::ANONYMOUS_NAME of TensorFlow.
ANONYMOUS = 'cd2c89b7-88b7-44c8-ad83-06c2a9158347'
_numbers = itertools.count()


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
            call = node.op in _CALLS or node.op in ('If', 'While', 'Case')
            if op is not None and op.is_stateful and not call:
                return True
    return False


def stateful_nodes(graph: GraphDef) -> tuple[str, ...]:
    """Returns the names of a graph's own nodes that have side effects."""
    return tuple(
        node.name
        for node in graph.node
        if node.op != 'Placeholder'
        and (op := op_def_registry.get(node.op)) is not None
        and op.is_stateful
    )


def isolate_functions(graph: GraphDef) -> None:
    """Gives the library's functions names of their own and registers them, in place.

    Functions of two computations have the same names, and a function that is called
    by one that was traced is looked for in the eager context alone.
    """
    used = reachable_functions(graph)
    unused = [f for f in graph.library.function if f.signature.name not in used]
    for function in unused:
        graph.library.function.remove(function)
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
        return node.op in _CALLS and wanted(library[node.attr['f'].func.name])

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
    """Returns the node that calls a concrete function.

    Args:
      name: The node's name.
      function: The function.
      inputs: The function's inputs, then control inputs.
      stateful: Whether the function has side effects.
    """
    signature = function.function_def.signature
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

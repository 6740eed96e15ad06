"""Draws of a graph as functions of a key, a number for the operation and the step.

TensorFlow's draws hang on the state of a kernel, which starts from the machine's
entropy or a seed and counts its runs in whatever order threads make them; seeds may
be the time. Its stateless ones are Philox (Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3") of a key and a counter, of which the upper half is the
operation's number here: no two operations with one key share a number drawn.

The key is an argument of the graph and of each function that draws, or calls one that
does. A call hands down a key of its own, drawn from the caller's; a loop has the key
as a part of its state, and each step draws the next step's. So nothing hangs on the
order in which operations run.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import function_pb2
from tensorflow.python.framework import op_def_registry

from tff_transfer.errors import UserError
from tff_transfer.graphs import graph_defs, graph_functions

# What the key is called: an argument of functions, a placeholder of the graph.
KEY = 'key_of_draws'
# TensorFlow's number of the generator, the same on all devices.
PHILOX = 1
_NEXT_STEP = 0
_UINT64 = tf.uint64.as_datatype_enum
_INTS = 'StatelessRandomUniformFullIntV2'
# Drawn by key and counter: the stateless operation, and its attributes' old names.
_BY_KEY = {
    'NonDeterministicInts': (_INTS, {'dtype': 'dtype', 'Tshape': 'shape_dtype'}),
    'RandomGamma': ('StatelessRandomGammaV3', {'dtype': 'T', 'shape_dtype': 'S'}),
    'RandomShuffle': ('StatelessShuffle', {'T': 'T'}),
    'RandomStandardNormal': (
        'StatelessRandomNormalV2',
        {'dtype': 'dtype', 'Tshape': 'T'},
    ),
    'RandomUniform': ('StatelessRandomUniformV2', {'dtype': 'dtype', 'Tshape': 'T'}),
    'RandomUniformInt': (
        'StatelessRandomUniformIntV2',
        {'dtype': 'Tout', 'Tshape': 'T'},
    ),
    'TruncatedNormal': (
        'StatelessTruncatedNormalV2',
        {'dtype': 'dtype', 'Tshape': 'T'},
    ),
}
# Drawn by a seed, which is drawn by key and counter, and that input's place.
_BY_SEED = {
    'Multinomial': (
        'StatelessMultinomial',
        {'T': 'T', 'output_dtype': 'output_dtype'},
        2,
    ),
    'RandomPoissonV2': (
        'StatelessRandomPoisson',
        {'Rtype': 'R', 'dtype': 'dtype', 'T': 'S'},
        1,
    ),
}
# The parameter whose shape is the last part of what is drawn, and the shape's dtype.
_PARAMETER = {'RandomGamma': (1, 'S'), 'RandomPoissonV2': (1, 'S')}
_DRAWS = {*_BY_KEY, *_BY_SEED, 'Timestamp'}
_BRANCHES = ('If', 'StatelessIf', 'Case', 'StatelessCase')
_LOOPS = ('While', 'StatelessWhile')
# A time that is drawn is one of so many seconds: as float64 it has a millionth of a
# second, and seeds are made of microseconds.
_SECONDS = 2.0**33


class NoKeyError(UserError):
    """There is a draw that cannot hang on a key."""


def key_draws(graph: graph_defs.GraphDef) -> bool:
    """Has a graph's draws hang on a key, in place.

    Those with a seed of their own do so too: their kernels would count the runs of
    all clients. A time (`tf.timestamp`), which TFF makes seeds of, becomes a draw.

    Args:
      graph: The graph; gets a placeholder `KEY`, uint64 [1], if it draws.

    Returns:
      Whether it draws.

    Raises:
      NoKeyError: A draw is of a kind, or at a place, that has no key.
    """
    functions = graph_functions.reachable_functions(graph)
    keyed = _keyed(graph, functions)
    _check(graph.node, keyed)
    for function in functions.values():
        _check(function.node_def, keyed)
    if not keyed:
        return False
    numbers = itertools.count(_NEXT_STEP + 1)
    loops: dict[str, tuple[str, int]] = {}
    _Nodes(graph.node, in_function=False).hang_on_key(keyed, numbers, loops)
    for name, function in functions.items():
        if name in keyed:
            function.signature.input_arg.add(name=KEY, type=_UINT64)
            nodes = _Nodes(function.node_def, in_function=True)
            renamed = nodes.hang_on_key(keyed, numbers, loops)
            graph_functions.rename_tensors(function, renamed)
    for new, (name, place) in loops.items():
        graph.library.function.append(_with_next_key(functions[name], new, place))
    placeholder = graph.node.add(name=KEY, op='Placeholder')
    placeholder.attr['dtype'].type = _UINT64
    placeholder.attr['shape'].shape.CopyFrom(tf.TensorShape([1]).as_proto())
    return True


def _keyed(graph, functions: dict) -> set[str | None]:
    """Returns the functions that take a key, and None if the graph itself does."""
    bodies = {None: graph.node, **{n: f.node_def for n, f in functions.items()}}
    found = set()
    before = None
    while before != len(found):
        before = len(found)
        for name, nodes in bodies.items():
            for node in nodes:
                used = graph_functions.function_names(node)
                if node.op in _DRAWS or not found.isdisjoint(used):
                    # Branches, and a loop's condition and body, take the same.
                    found.update([name, *used])
    return found


def _check(nodes, keyed: set) -> None:
    """Raises an error for the first draw that cannot be given a key."""
    for node in nodes:
        op = op_def_registry.get(node.op)
        if op is None or node.op in _DRAWS:
            continue
        seeded = any(attr.name == 'seed' for attr in op.attr)
        if seeded and op.is_stateful:
            raise NoKeyError(f'{node.op} draws, and has no form that a key decides')
        inputs = [arg.name for arg in op.input_arg]
        if 'seed' in inputs and 'Dataset' in node.op:
            values = {n.name: n for n in nodes if n.op == 'Const'}
            seeds = [node.input[inputs.index(i)] for i in ('seed', 'seed2')]
            known = [values.get(graph_defs.node_of(seed)) for seed in seeds]
            if all(k and not tf.make_ndarray(k.attr['value'].tensor) for k in known):
                raise NoKeyError(
                    f'{node.op} draws without a seed: give its shuffle a seed'
                )
        handed = {*graph_functions.CALLS, *_BRANCHES, *_LOOPS, 'ReduceDataset'}
        used = graph_functions.function_names(node)
        if node.op not in handed and not keyed.isdisjoint(used):
            raise NoKeyError(f'a function of {node.op}, in a tf.data pipeline, draws')


class _Nodes:
    """The nodes of a graph or of a function, among which others are put."""

    def __init__(self, nodes, in_function: bool):
        self._nodes = nodes
        self._in_function = in_function

    def hang_on_key(
        self, keyed: set, numbers: Iterator[int], loops: dict
    ) -> dict[str, str]:
        """Gives draws and calls of `keyed` functions their keys, in place.

        Args:
          keyed: The functions that take a key.
          numbers: Numbers for operations.
          loops: By its new name, for each function that is a loop's step: its name
            and the key's place among its arguments. Is added to.

        Returns:
          The new names of a function's tensors.
        """
        renamed = {}
        for node in list(self._nodes):
            if node.op in _DRAWS:
                if node.op == 'Timestamp':
                    renamed[f'{node.name}:ts:0'] = f'{node.name}:z:0'
                self._draw(node, next(numbers))
            elif not keyed.isdisjoint(graph_functions.function_names(node)):
                self._hand_down(node, next(numbers), loops)
        return renamed

    def _draw(self, node, number: int) -> None:
        """Makes a node draw by the key."""
        values = [i for i in node.input if not i.startswith('^')]
        control = [i for i in node.input if i.startswith('^')]
        if node.op == 'Timestamp':
            shape = self._constant(f'{node.name}/shape', np.zeros(0, np.int32))
            attrs = {'dtype': tf.float64, 'Tshape': tf.int32}
            drawn = self._add(
                f'{node.name}/drawn',
                'StatelessRandomUniformV2',
                [shape, *self._philox(node.name, number)],
                attrs,
            )
            most = self._constant(f'{node.name}/most', np.float64(_SECONDS))
            _set(node, 'Mul', [drawn, most, *control], {'T': tf.float64})
            return
        if node.op in _PARAMETER:
            place, dtype = _PARAMETER[node.op]
            dtype = tf.as_dtype(node.attr[dtype].type)
            values[0] = self._longer_shape(node, values[0], values[place], dtype)
        if node.op in _BY_KEY:
            op, names = _BY_KEY[node.op]
            values[1:1] = self._philox(node.name, number)
        else:
            op, names, place = _BY_SEED[node.op]
            values.insert(place, self.ints(f'{node.name}/seed', number, 2, tf.int64))
        attrs = {n: tf.as_dtype(node.attr[old].type) for n, old in names.items()}
        if node.op in _BY_SEED:
            attrs['Tseed'] = tf.int64
        _set(node, op, [*values, *control], attrs)

    def _longer_shape(self, node, shape: str, parameter: str, dtype: tf.DType) -> str:
        """Adds what gives the shape of samples for each entry of a parameter."""
        last = self._add(
            f'{node.name}/last',
            'Shape',
            [parameter],
            {'T': tf.as_dtype(node.attr['R' if 'R' in node.attr else 'T'].type)},
        )
        self._nodes[-1].attr['out_type'].type = dtype.as_datatype_enum
        axis = self._constant(f'{node.name}/axis', np.int32(0))
        whole = self._add(
            f'{node.name}/whole',
            'ConcatV2',
            [shape, last, axis],
            {'T': dtype, 'Tidx': tf.int32},
        )
        self._nodes[-1].attr['N'].i = 2
        return whole

    def _hand_down(self, node, number: int, loops: dict) -> None:
        """Gives a node that calls functions a key for these."""
        values = [i for i in node.input if not i.startswith('^')]
        control = [i for i in node.input if i.startswith('^')]
        key = self.ints(f'{node.name}/key', number, 1, tf.uint64)
        place, takes, step = len(values), ('Tin',), None
        if node.op in _LOOPS:
            takes, step = ('T',), node.attr['body'].func
        elif node.op == 'ReduceDataset':
            place = 1 + len(node.attr['Tstate'].list.type)
            takes, step = ('Tstate', 'output_types'), node.attr['f'].func
        for name in takes:
            node.attr[name].list.type.append(_UINT64)
        if step is not None:
            if node.attr['output_shapes'].list.shape:
                shape = tf.TensorShape([1]).as_proto()
                node.attr['output_shapes'].list.shape.append(shape)
            first = place - (node.op == 'ReduceDataset')
            new = f'{step.name}_step_{first}'
            loops[new] = step.name, first
            step.name = new
        values.insert(place, key)
        node.ClearField('input')
        node.input.extend([*values, *control])

    def ints(self, name: str, number: int, count: int, dtype: tf.DType) -> str:
        """Adds a draw of integers from all of a dtype's; returns the tensor's name."""
        shape = self._constant(f'{name}/shape', np.array([count], np.int32))
        attrs = {'dtype': dtype, 'Tshape': tf.int32}
        return self._add(name, _INTS, [shape, *self._philox(name, number)], attrs)

    def _philox(self, name: str, number: int) -> list[str]:
        """Returns the inputs of a draw: the key, the counter and the generator."""
        counter = np.array([0, number], np.uint64)
        return [
            KEY,
            self._constant(f'{name}/counter', counter),
            self._constant(f'{name}/generator', np.int32(PHILOX)),
        ]

    def _constant(self, name: str, value) -> str:
        tensor = tf.make_tensor_proto(value)
        made = self._add(name, 'Const', [], {'dtype': tf.as_dtype(value.dtype)})
        self._nodes[-1].attr['value'].tensor.CopyFrom(tensor)
        return made

    def _add(self, name: str, op: str, inputs: list[str], attrs: dict) -> str:
        """Adds a node; returns the name of what it gives."""
        _set(self._nodes.add(name=name), op, inputs, attrs)
        (output,) = op_def_registry.get(op).output_arg
        return f'{name}:{output.name}:0' if self._in_function else name


def _set(node, op: str, inputs: list[str], attrs: dict[str, tf.DType]) -> None:
    """Makes a node another operation of the same name."""
    for name in [n for n in node.attr if not n.startswith('_')]:
        del node.attr[name]
    node.op = op
    node.ClearField('input')
    node.input.extend(inputs)
    for name, dtype in attrs.items():
        node.attr[name].type = dtype.as_datatype_enum


def _with_next_key(function, name: str, place: int) -> function_pb2.FunctionDef:
    """Returns a loop's step that takes a key among its states and gives the next.

    Args:
      function: The step, whose last argument is the key.
      name: The new function's name.
      place: Which argument the key becomes. What the function gives is all state, so
        the next key is the last result.
    """
    new = function_pb2.FunctionDef()
    new.CopyFrom(function)
    new.signature.name = name
    *arguments, key = function.signature.input_arg
    arguments.insert(place, key)
    new.signature.ClearField('input_arg')
    new.signature.input_arg.extend(arguments)
    new.ClearField('arg_attr')
    for i, attr in function.arg_attr.items():
        new.arg_attr[i + (i >= place)].CopyFrom(attr)
    new.ClearField('resource_arg_unique_id')
    for i, number in function.resource_arg_unique_id.items():
        new.resource_arg_unique_id[i + (i >= place)] = number
    nodes = _Nodes(new.node_def, in_function=True)
    result = nodes.ints(f'next_{KEY}', _NEXT_STEP, 1, tf.uint64)
    new.signature.output_arg.add(name=f'next_{KEY}', type=_UINT64)
    new.ret[f'next_{KEY}'] = result
    return new

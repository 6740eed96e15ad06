"""Functions of `Dataset.map` that may as well be called once for many elements.

A function of batches is one if each row of its result is made from the same row of its
arguments; a function of single examples, if its operations do to each row of a larger
array what they do to one example. Both are read off its graph: all operations must be
of those below, which behave so and give the same bits for one row as for many. They
are run one by one, as `tf.data` does, and not as a function, which TensorFlow would
optimise to other last bits (a division by 255 becomes a product).
"""

import collections
from collections.abc import Callable

import numpy as np
import tensorflow as tf

_UNARY = ('Neg', 'Abs', 'Square', 'LogicalNot')
_BINARY = (
    *('Add', 'AddV2', 'Sub', 'Mul', 'RealDiv', 'Maximum', 'Minimum'),
    *('Equal', 'NotEqual', 'Less', 'LessEqual', 'Greater', 'GreaterEqual'),
)
_RESHAPING = ('Reshape', 'ExpandDims', 'Squeeze', 'StridedSlice')

# What `over_rows` found, by the function's graph: each `map` traces a new one.
_found: collections.OrderedDict = collections.OrderedDict()
_KEPT = 64


def over_rows(function, batched: bool) -> Callable | None:
    """Returns what gives the same as a function for all rows of arrays.

    Args:
      function: The concrete function of a `Dataset.map`.
      batched: Whether its arguments are batches, or single examples.

    Returns:
      A function from arrays [rows, ...] to arrays [rows, ...]; or None if the given
      one is not known to treat each row alike.
    """
    if function.captured_inputs:
        return None
    graph, definition = function.graph, function.function_def
    key = (
        batched,
        *(node.SerializeToString(deterministic=True) for node in definition.node_def),
        *((tensor.name, str(tensor.shape)) for tensor in graph.inputs),
        *(tensor.name for tensor in graph.outputs),
    )
    if key not in _found:
        _found[key] = _compiled(graph, batched)
    _found.move_to_end(key)
    if len(_found) > _KEPT:
        _found.popitem(last=False)
    return _found[key]


def _compiled(graph, batched: bool) -> Callable | None:
    inputs = [t.name for t in graph.inputs]
    outputs = [t.name for t in graph.outputs]
    constants: dict[str, np.ndarray] = {}
    rows = {t.name: _row_shape(t, batched) for t in graph.inputs}
    calls = []
    for op in graph.get_operations():
        if op.type == 'Const':
            constants[op.outputs[0].name] = tf.make_ndarray(op.get_attr('value'))
            continue
        if op.type == 'Placeholder':
            continue
        rows |= {t.name: _row_shape(t, batched) for t in op.outputs}
        known = all(t.name in rows or t.name in constants for t in op.inputs)
        if op.control_inputs or not known:
            return None
        call = _call(op, rows, constants, batched)
        if call is None:
            return None
        calls.append((call, [t.name for t in op.inputs], [t.name for t in op.outputs]))
    if None in rows.values() or not all(name in rows for name in outputs):
        return None
    tensors = {name: tf.constant(value) for name, value in constants.items()}

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        values = tensors | dict(zip(inputs, arrays, strict=True))
        with tf.device('/CPU:0'):
            for call, taken, given in calls:
                result = call(*(values[name] for name in taken))
                values.update(zip(given, result, strict=True))
        return [np.asarray(values[name]) for name in outputs]

    return run


def _row_shape(tensor, batched: bool) -> tuple[int, ...] | None:
    """Returns the shape of what belongs to one row, if it is known."""
    shape = tensor.shape
    if shape.rank is None or (batched and not shape.rank):
        return None
    shape = shape[1:] if batched else shape
    return tuple(shape) if shape.is_fully_defined() else None


def _call(op, rows: dict, constants: dict, batched: bool) -> Callable | None:
    """Returns what does an operation for many rows and gives a list, if it is known."""
    names = [t.name for t in op.inputs]
    shapes = [rows[n] if n in rows else np.shape(constants[n]) for n in names]
    of_rows = [n in rows for n in names]
    shape = rows[op.outputs[0].name] if op.outputs else None
    if shape is None or None in shapes or not any(of_rows):
        return None
    only_first = of_rows == [True] + [False] * (len(names) - 1)
    if op.type == 'Identity':
        return lambda x: [x]
    if op.type == 'Cast' and not op.get_attr('Truncate'):
        dtype = op.get_attr('DstT')
        return lambda x: [tf.cast(x, dtype)]
    if op.type in _UNARY:
        function = getattr(tf.raw_ops, op.type)
        return lambda x: [function(x=x)]
    if op.type in _BINARY:
        function = getattr(tf.raw_ops, op.type)
        ranks = [len(s) for s in shapes]
        # Aligned from the right, a constant of more dimensions would meet the rows'.
        fits = ranks[0] == ranks[1] if all(of_rows) else len(shape) == max(ranks)
        longest = ranks[of_rows.index(True)] == max(ranks)
        return (lambda x, y: [function(x=x, y=y)]) if fits and longest else None
    if op.type in _RESHAPING and only_first:
        size = np.prod(shapes[0], dtype=np.int64)
        same = size == np.prod(shape, dtype=np.int64) and size > 0
        kept = op.type != 'StridedSlice' or _inserts_axes(op, constants)
        target = tf.constant([-1, *shape])
        return (lambda x, *_: [tf.reshape(x, target)]) if same and kept else None
    if op.type == 'OneHot' and only_first and op.get_attr('axis') == -1:
        return lambda x, depth, on, off: [
            tf.raw_ops.OneHot(indices=x, depth=depth, on_value=on, off_value=off)
        ]
    if op.type == 'ParseExampleV2' and only_first and not batched:
        return _parse(op, shapes)
    return None


def _inserts_axes(op, constants: dict) -> bool:
    """Returns whether a slice takes everything, with new axes at most."""
    strides = constants[op.inputs[3].name]
    whole = op.get_attr('begin_mask') & op.get_attr('end_mask')
    kept = op.get_attr('ellipsis_mask') | op.get_attr('new_axis_mask') | whole
    return kept == 2 ** len(strides) - 1 and bool(np.all(strides == 1))


def _parse(op, shapes: list[tuple[int, ...]]) -> Callable | None:
    """Returns `tf.io.parse_single_example` of many, if all its features are dense."""
    dense = [tf.TensorShape(s) for s in op.get_attr('dense_shapes')]
    if (
        shapes[0] != ()
        or shapes[1] != (0,)
        or len(op.outputs) != len(dense)
        or not all(s.is_fully_defined() for s in dense)
    ):
        return None

    def parse(serialized, names, sparse_keys, dense_keys, ragged_keys, *defaults):
        return tf.raw_ops.ParseExampleV2(
            serialized=serialized,
            names=names,
            sparse_keys=sparse_keys,
            dense_keys=dense_keys,
            ragged_keys=ragged_keys,
            dense_defaults=defaults,
            num_sparse=0,
            sparse_types=[],
            ragged_value_types=[],
            ragged_split_types=[],
            dense_shapes=dense,
        ).dense_values

    return parse

"""Rewrites that leave results as they are: against values worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import runtime
from tff_transfer.graphs import graph_defs, graph_functions


def ops_of(graph) -> set[str]:
    """Returns what a graph's results depend on, its functions included."""
    graph_defs.prune(graph, [n.name for n in graph.node if n.op == 'Identity'][-1:])
    used = graph_functions.reachable_functions(graph).values()
    return {n.op for nodes in (graph.node, *(f.node_def for f in used)) for n in nodes}


@pytest.mark.parametrize('bad', [None, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('nested', [False, True])
@pytest.mark.parametrize('axis', [None, 0, 1])
def test_finite_checks(bad, nested, axis):
    def check(x):
        return tf.reduce_all(tf.math.is_finite(x), axis)

    inner = tf.function(check) if nested else check
    function = tf.function(lambda x: tf.identity(inner(x)))
    spec = tf.TensorSpec([None, 3], tf.float32)
    graph = function.get_concrete_function(spec).graph.as_graph_def()
    graph_defs.sum_finite_checks(graph)
    graph_functions.isolate_functions(graph)
    assert {'Sub', 'Sum'} <= ops_of(graph)
    (name,) = (n.name for n in graph.node if n.op == 'Placeholder')
    result = [n.name for n in graph.node if n.op == 'Identity'][-1]
    rewritten = tf.compat.v1.wrap_function(
        lambda x: tf.import_graph_def(graph, {name: x}, [f'{result}:0'], name='')[0],
        [spec],
    )
    x = np.array([[1, 0, -3e38], [3e38, 2, 3e38]], np.float32)
    if bad is not None:
        x[1, 2] = bad
    expected = np.isfinite(x).all(axis)
    np.testing.assert_array_equal(rewritten(tf.constant(x)).numpy(), expected)
    # The checks of no numbers hold.
    assert rewritten(tf.zeros([0, 3])).numpy().all()


@tff.tensorflow.computation(tff.TensorType(np.float32, [3]))
def finite(x):
    each = tf.math.is_finite(x)
    return each, tf.reduce_all(each), tf.reduce_all(each, keepdims=True)


def test_what_else_uses_finiteness():
    with runtime.use_compiled():
        each, every, kept = finite([1.0, np.inf, 2.0])
    assert each.tolist() == [True, False, True]
    assert not every and kept.tolist() == [False]


# Widths with functions of their own in tensor_encoding (8, 12) and without (5).
@pytest.mark.parametrize('bits', [5, 8, 12])
def test_quantized_sums_without_packing(bits):
    # From 0 to the greatest integer of so many bits: quantization is exact for these.
    most = 2**bits - 1
    draw = np.random.default_rng(bits)
    values = [draw.integers(0, most + 1, (10, 3)).astype(np.float32) for _ in range(5)]
    for value in values:
        value[0, 0], value[9, 2] = 0, most
    factory = tff.aggregators.EncodedSumFactory.quantize_above_threshold(bits, 20)
    process = factory.create(tff.TensorType(np.float32, [10, 3]))
    bodies = []
    with runtime.use_compiled() as context:
        state = process.initialize()
        output = process.next(state, values)
        np.testing.assert_allclose(output.result, sum(values), rtol=1e-6)
        functions = context.program(process.next)._phases.traced.compiled
    for (kind, _), function in functions.items():
        if kind == 'clients':
            library = function.graph.as_graph_def().library.function
            # Not the loop over blocks, in whose body that over clients stands.
            bodies += [
                f
                for f in library
                if 'while_body' in f.signature.name
                and not any('While' in n.op for n in f.node_def)
            ]
    assert bodies
    for function in bodies:
        kept = _needed(function)
        casts = [n for n in kept if 'bitpacking_decode' in n and n.endswith('Cast')]
        assert casts and not any('Slice' in n and 'bitpacking' in n for n in kept)


def _needed(function) -> set[str]:
    """Returns the nodes that a function's results depend on."""
    inputs = {n.name: n.input for n in function.node_def}
    found, todo = set(), [graph_defs.node_of(r) for r in function.ret.values()]
    while todo:
        name = todo.pop()
        if name in inputs and name not in found:
            found.add(name)
            todo.extend(graph_defs.node_of(i) for i in inputs[name])
    return found

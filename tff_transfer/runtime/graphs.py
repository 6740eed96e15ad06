"""TFF's TensorFlow computations as functions of tensors and sequences."""

import zlib

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.graphs import graph_defs, graph_functions
from tff_transfer.runtime import (
    bit_packing,
    draws,
    iterators,
    layouts,
    mixed_precision,
)
from tff_transfer.runtime.keys import Keys
from tff_transfer.runtime.lockstep.sequences import LockstepSequence
from tff_transfer.runtime.sequences import (
    ArraySequence,
    DatasetSequence,
    Sequence,
    as_nest,
    leaves,
    pack,
)

# The nodes that read a dataset element by element.
_LOOPS = ('ReduceDataset', 'MakeIterator')


class Graph:
    """A TensorFlow computation that can be imported into a function being traced.

    A `ReduceDataset` node, which runs a training loop over a tf.data pipeline,
    becomes a `tf.while_loop` over the sequence's elements: to instantiate such a
    pipeline takes 20 to 30 ms, for each client and round. Iterators read the
    sequence's arrays likewise (iterators.py).
    """

    def __init__(
        self,
        proto,
        type_signature: tff.FunctionType,
        debug: bool,
        compute_dtype: str | None,
        keys: Keys,
    ):
        """Reads a computation.

        Args:
          proto: TFF's `Computation` with a `tensorflow` field.
          type_signature: Its type.
          debug: Whether a loop's state is checked to be finite after each step.
          compute_dtype: What products of float32 are computed in, if not that.
          keys: What draws hang on.

        Raises:
          NoKeyError: A draw cannot hang on a key.
        """
        self._debug = debug
        self._keys = keys
        tensorflow = proto.tensorflow
        graph = tf.compat.v1.GraphDef()
        tensorflow.graph_def.Unpack(graph)
        self._type = type_signature
        self._inputs, self._outputs = [], _bindings(tensorflow.result)
        if tensorflow.HasField('parameter'):
            self._inputs = _bindings(tensorflow.parameter)
        self._token = tensorflow.session_token_tensor_name
        initialize = tensorflow.initialize_op or None
        fed = [n for n in [*self._inputs, self._token] if n]
        targets = [*self._outputs, *fed, *filter(None, [initialize])]
        graph_defs.prune(graph, targets)
        graph_defs.detach(graph)
        if compute_dtype is not None:
            mixed_precision.shorten_products(graph, tf.as_dtype(compute_dtype))
        self._ops = None
        ops = ' '.join(node.op for node in graph.node)
        if keys.wanted and draws.key_draws(graph):
            self._ops = zlib.crc32(ops.encode())
        graph_defs.sum_finite_checks(graph)
        graph_functions.isolate_functions(graph)
        leaf_types = layouts.leaf_types(type_signature.parameter)
        elements = {
            graph_defs.node_of(name): leaf.element
            for name, leaf in zip(self._inputs, leaf_types, strict=True)
            if isinstance(leaf, tff.SequenceType)
        }
        if elements:
            loops = {
                name
                for name, function in graph_functions.reachable_functions(graph).items()
                if any(n.op in _LOOPS for n in _all_nodes(graph, function))
            }
            graph_functions.inline_calls(graph, lambda f: f.signature.name in loops)
            graph_defs.skip_identities(graph)
            graph_defs.prune(graph, targets)
        graph_defs.own_resources(graph, initialize)
        self._graph = graph
        self._iterators = None
        element_type = iterators.element_type_of(graph, elements)
        if element_type is not None:
            self._iterators = iterators.Iterators(graph, element_type)

    def __call__(self, argument=None):
        """Imports the graph.

        Args:
          argument: Nested `Struct`s of tensors and `Sequence`s.

        Returns:
          The result, likewise.
        """
        feeds = {}
        if self._token:
            feeds[self._token] = tf.constant('')
        if self._ops is not None:
            feeds[f'{draws.KEY}:0'] = self._keys.here(self._ops)
        values = leaves(argument) if argument is not None else []
        # An iterator over a dataset that TensorFlow made reads that dataset.
        in_arrays = all(
            isinstance(v, ArraySequence) for v in values if isinstance(v, Sequence)
        )
        sequences = {}
        for name, value in zip(self._inputs, values, strict=True):
            if isinstance(value, DatasetSequence):
                feeds[name] = value.variant()
            elif isinstance(value, Sequence):
                sequences[graph_defs.node_of(name)] = value
            else:
                feeds[name] = value
        source = self._graph
        if self._iterators is not None and in_arrays:
            source = self._iterators.graph
        graph = tf.compat.v1.GraphDef(versions=source.versions)
        graph.node.extend(source.node)
        feeds.update(self._replace_loops(graph, source, sequences))
        feeds.update(bit_packing.unpacked(graph, feeds))
        used = {graph_defs.node_of(i) for node in graph.node for i in node.input}
        used |= {graph_defs.node_of(o) for o in self._outputs}
        for name in self._inputs:
            node = graph_defs.node_of(name)
            if node in sequences and node in used:
                feeds[name] = sequences[node].variant()
        feeds = {
            k: _captured(v) for k, v in feeds.items() if graph_defs.node_of(k) in used
        }
        direct = {k: v for k, v in feeds.items() if k in self._outputs}
        fetched = [o for o in self._outputs if o not in direct]
        imported = iter(tf.graph_util.import_graph_def(graph, feeds, fetched, name=''))
        results = [direct[o] if o in direct else next(imported) for o in self._outputs]
        return self._pack_results(results)

    def _pack_results(self, results):
        types = layouts.leaf_types(self._type.result)
        for i, (result, leaf) in enumerate(zip(results, types, strict=True)):
            if isinstance(leaf, tff.SequenceType):
                results[i] = DatasetSequence(leaf.element, result)
            else:
                result.set_shape(leaf.shape)
        return pack(iter(results), self._type.result)

    def _replace_loops(self, graph, source, sequences: dict[str, Sequence]) -> dict:
        """Replaces loops over `sequences` in place; returns what to feed.

        Args:
          graph: The nodes of `source`, to be changed.
          source: The graph with its library.
          sequences: By the name of the node that stands for the sequence.
        """
        feeds = {}
        outer = tf.compat.v1.get_default_graph()
        for node in graph.node:
            made = node.op == 'MakeIterator' and source is not self._graph
            if node.op != 'ReduceDataset' and not made:
                continue
            dataset, *inputs = node.input
            sequence = sequences.get(graph_defs.node_of(dataset))
            if sequence is None:
                if not made:
                    graph_functions.hide(node)
                continue
            if made:
                function, stateful = self._iterators.start, True
                fed = [sequence.first, sequence.last, *sequence.arrays]
            else:
                name = node.attr['f'].func.name
                stateful = graph_functions.is_stateful(source, name)
                reduce = _reduce_loop
                if isinstance(sequence, LockstepSequence):
                    reduce = _stand_in
                function = reduce(node, sequence, stateful, self._debug)
                fed = function.captured_inputs
            function.add_to_graph(outer)
            values = [i for i in inputs if not i.startswith('^')]
            control = [i for i in inputs if i.startswith('^')]
            for number, tensor in enumerate(fed):
                feeds[f'{node.name}/sequence_{number}:0'] = tensor
                values.append(f'{node.name}/sequence_{number}:0')
            call = graph_functions.call(
                node.name, function.function_def, [*values, *control], stateful
            )
            node.CopyFrom(call)
        for name, tensor in feeds.items():
            placeholder = graph.node.add()
            placeholder.name, placeholder.op = graph_defs.node_of(name), 'Placeholder'
            placeholder.attr['dtype'].type = tensor.dtype.as_datatype_enum
        return feeds


def _reduce_loop(node, sequence: Sequence, stateful: bool, debug: bool):
    """Returns what a `ReduceDataset` node does to a sequence.

    Args:
      node: The node.
      sequence: What takes the place of its dataset.
      stateful: Whether its function has side effects.
      debug: Whether the state is checked to be finite after each step.

    Returns:
      A concrete function from initial states and captured values to the states,
      which captures what it needs of the sequence.
    """
    state_specs, captured_specs = _loop_specs(node)
    state_dtypes = [spec.dtype for spec in state_specs]
    shapes = [spec.shape for spec in state_specs]
    call = tf.raw_ops.PartitionedCall
    if stateful:
        call = tf.raw_ops.StatefulPartitionedCall

    def loop(*inputs):
        states = inputs[: len(state_dtypes)]
        captured = inputs[len(state_dtypes) :]

        def body(j, *state):
            # A dataset's tensors are in the order in which tf.nest has them.
            nest = as_nest(sequence.element(j), sequence.element_type)
            new = call(
                args=[*state, *tf.nest.flatten(nest), *captured],
                Tout=state_dtypes,
                f=node.attr['f'].func,
            )
            if debug:
                new = [_finite(t) for t in new]
            for tensor, shape in zip(new, shapes, strict=True):
                tensor.set_shape(shape)
            return (j + 1, *new)

        _, *result = tf.while_loop(
            lambda j, *_: j < sequence.last,
            body,
            (sequence.first, *states),
            shape_invariants=(tf.TensorShape([]), *shapes),
            parallel_iterations=1,
        )
        return result

    loop = tf.function(loop, autograph=False)
    return loop.get_concrete_function(*state_specs, *captured_specs)


def _stand_in(node, sequence: LockstepSequence, *_):
    """Returns what stands for a loop until the graph is vectorised (lockstep/)."""
    return sequence.stand_in(node.attr['f'].func.name, *_loop_specs(node))


def _loop_specs(node) -> tuple[list[tf.TensorSpec], list[tf.TensorSpec]]:
    """Returns the specs of a loop's states and of what else it uses."""
    attrs = {
        name: node.attr[name].list for name in ('Tstate', 'Targuments', 'output_shapes')
    }
    shapes = [tf.TensorShape(s) for s in attrs['output_shapes'].shape]
    dtypes = [tf.as_dtype(t) for t in attrs['Tstate'].type]
    states = [tf.TensorSpec(s, t) for s, t in zip(shapes, dtypes, strict=True)]
    return states, [tf.TensorSpec(None, t) for t in attrs['Targuments'].type]


def _captured(tensor: tf.Tensor) -> tf.Tensor:
    """Returns a tensor of the graph that is being traced: an import takes no other."""
    graph = tf.compat.v1.get_default_graph()
    inside = tf.is_symbolic_tensor(tensor) and tensor.graph is graph
    return tensor if inside else graph.capture(tensor)


def _finite(tensor: tf.Tensor) -> tf.Tensor:
    if not tensor.dtype.is_floating:
        return tensor
    return tf.debugging.check_numerics(tensor, 'the state after a step')


def _bindings(binding) -> list[str]:
    kind = binding.WhichOneof('binding')
    if kind == 'tensor':
        return [binding.tensor.tensor_name]
    if kind == 'sequence':
        return [binding.sequence.variant_tensor_name]
    if kind == 'struct':
        return [name for e in binding.struct.element for name in _bindings(e)]
    return []


def _all_nodes(graph, function):
    used = graph_functions.reachable_functions(graph, function.node_def)
    return [n for f in [function, *used.values()] for n in f.node_def]

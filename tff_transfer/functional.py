"""Networks as pure functions of their weights, as federated training needs them.

A Keras model and an opaque SavedModel alike are traced to a graph, and what reads a
variable there becomes an argument. So a network's weights can be trained, left as
constants or composed of others, and no process needs to know what it was made of.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import graph_defs
from tff_transfer.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Weight:
    """One variable of a network.

    Attributes:
      name: The variable's name, such as `block_1_expand/kernel:0`.
      value: What it held when the network was traced.
      trainable: Whether the network's maker means it to be trained; false for
        BatchNorm's moving statistics.
      used_by: The TensorFlow operations that take it, such as `Conv2D`.
    """

    name: str
    value: np.ndarray
    trainable: bool
    used_by: frozenset[str]


class FunctionalNetwork:
    """A network without variables, made by `trace`.

    Attributes:
      weights: The weights that its graph reads, each one once, in the order of the
        network's own variables.
      input_spec: Dtypes and shapes of what it takes, in its structure.
      output_spec: Dtype and shape of what it gives.
    """

    def __init__(self, graph, inputs, weights, input_spec, output, output_spec):
        """Makes a network of parts of a graph.

        Args:
          graph: A `GraphDef` of placeholders and what is computed of them.
          inputs: The names of the placeholders that are the flat inputs.
          weights: Each `Weight` by the name of its placeholder, in order.
          input_spec: As the attribute.
          output: The name of the output's node, of which it is the first output.
          output_spec: As the attribute.
        """
        self._graph, self._inputs, self._output = graph, inputs, output
        self._places = tuple(weights)
        self.weights: tuple[Weight, ...] = tuple(weights.values())
        self.input_spec = input_spec
        self.output_spec: tf.TensorSpec = output_spec

        self._function = tf.function(self.inline, autograph=False)

    def __call__(self, values: Sequence[tf.Tensor], inputs) -> tf.Tensor:
        """Calls the network with weights, as a function of its own.

        Args:
          values: One tensor for each of `weights`.
          inputs: Tensors in the structure that the network was traced with.

        Returns:
          The output.
        """
        return self._function(list(values), inputs)

    def inline(self, values: Sequence[tf.Tensor], inputs) -> tf.Tensor:
        """Does the same with operations in the function that is being traced.

        So gradients are computed for what that function takes alone, not for all
        weights. A gradient tape must be outside of it: it does not see operations
        that are imported.
        """
        names = [*self._inputs, *self._places]
        tensors = [*tf.nest.flatten(inputs), *values]
        # An import takes tensors of this very graph: identity captures others.
        feeds = {
            f'{name}:0': tf.identity(tensor)
            for name, tensor in zip(names, tensors, strict=True)
        }
        (output,) = tf.graph_util.import_graph_def(
            self._graph, feeds, [f'{self._output}:0'], name='network'
        )
        output.set_shape(self.output_spec.shape)
        return output

    def cuts(self) -> tuple[str, ...]:
        """Returns the nodes that all of the computation passes, in order.

        Inside a residual block, say, there is none: its input is needed at its end.
        """
        (start,) = self._inputs
        nodes = {node.name: node for node in self._graph.node}
        depends, order, todo = {start: True}, [start], [self._output]
        while todo:  # Depth first, what a node takes before the node.
            name = todo[-1]
            sources = [graph_defs.node_of(source) for source in nodes[name].input]
            missing = [source for source in sources if source not in depends]
            if missing:
                todo.extend(missing)
                continue
            todo.pop()
            if name not in depends:
                depends[name] = any(depends[source] for source in sources)
                if depends[name]:
                    order.append(name)
        place = {name: number for number, name in enumerate(order)}
        last_use, several = list(range(len(order))), set()
        for name in order:
            for source in nodes[name].input:
                taken, _, index = source.partition(':')
                if depends[taken]:
                    last_use[place[taken]] = place[name]
                    if index not in ('', '0'):
                        several.add(taken)
        cuts, reach = [], 0
        for number, name in enumerate(order):
            # Whatever came before is used up to here.
            if reach <= number and name not in {start, self._output, *several}:
                cuts.append(name)
            reach = max(reach, last_use[number])
        return tuple(cuts)

    def split(self, cut: str) -> tuple['FunctionalNetwork', 'FunctionalNetwork']:
        """Returns the network up to a cut, and from it on.

        Args:
          cut: One of `cuts()`.
        """
        with tf.Graph().as_default():
            (tensor,) = tf.graph_util.import_graph_def(
                self._graph, return_elements=[f'{cut}:0'], name=''
            )
        spec = tf.TensorSpec(tensor.shape, tensor.dtype)
        return (
            self._part(self._graph, self._inputs, self.input_spec, cut, spec),
            self._part(
                _cut_off(self._graph, cut, spec),
                [cut],
                spec,
                self._output,
                self.output_spec,
            ),
        )

    def _part(self, graph, inputs, input_spec, output, output_spec):
        kept = tf.compat.v1.GraphDef()
        kept.CopyFrom(graph)
        graph_defs.prune(kept, [output, *inputs])
        present = {node.name for node in kept.node}
        weights = {
            place: weight
            for place, weight in zip(self._places, self.weights, strict=True)
            if place in present
        }
        return FunctionalNetwork(kept, inputs, weights, input_spec, output, output_spec)


def _placeholder(number: int) -> str:
    return f'functional/weight_{number}'


def trace(
    network: Callable[..., tf.Tensor], inputs, *, training: bool
) -> FunctionalNetwork:
    """Traces a network as it is.

    What it does besides its output, such as moving BatchNorm's statistics, is left
    out.

    Args:
      network: A Keras model or layer, a `tf.Module` or a loaded SavedModel that gives
        one tensor.
      inputs: `tf.TensorSpec`s in the structure that it takes.
      training: What it is given as `training`.

    Returns:
      The same as a function of its weights.

    Raises:
      UserError: It uses a variable in another way than by reading it, or a table.
    """
    traced = tf.function(
        lambda x: network(x, training=training), autograph=False
    ).get_concrete_function(inputs)
    output = traced.outputs[0]
    end = output.op.name
    own = traced.inputs[: len(traced.inputs) - len(traced.captured_inputs)]
    names = [tensor.op.name for tensor in own]
    graph = traced.graph.as_graph_def()
    known = [*getattr(network, 'variables', ()), *traced.graph.variables]
    by_handle = {id(v.handle): v for v in reversed(known)}
    variables, constants = {}, {}
    for external, internal in traced.graph.captures:
        if id(external) in by_handle:
            variables[internal.op.name] = by_handle[id(external)]
        elif external.dtype != tf.resource:
            constants[internal.op.name] = external.numpy()
    _set_constants(graph, constants)
    _inline(graph)
    _drop_side_effects(graph, [output.name, *names])
    graph_defs.detach(graph)
    read = _replace_reads(graph, variables, [id(v) for v in known])
    graph_defs.prune(graph, [output.name, *names])
    resource = tf.resource.as_datatype_enum
    for node in graph.node:
        if 'dtype' in node.attr and node.attr['dtype'].type == resource:
            raise UserError(
                f'the network {getattr(network, "name", network)} cannot be trained:'
                f' {node.name} is no variable that is only read; train a head on it'
            )
    is_trainable = _trainable(network)
    weights = {
        _placeholder(i): Weight(
            v.name, v.numpy(), is_trainable(v), _users(graph, _placeholder(i))
        )
        for i, v in enumerate(read)
    }
    spec = tf.TensorSpec(output.shape, output.dtype)
    return FunctionalNetwork(graph, names, weights, inputs, end, spec)


def _cut_off(graph, cut: str, spec: tf.TensorSpec):
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


def _inline(graph) -> None:
    """Replaces calls, and branches that are known beforehand, by what they do.

    SavedModels that take `training` as a tensor branch on it.
    """
    while True:
        graph_defs.inline_calls(graph, lambda function: True)
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


def _drop_side_effects(graph, wanted: Sequence[str]) -> None:
    """Keeps what tensors are computed from, in place."""
    for node in graph.node:
        # Order matters to side effects alone.
        data = [source for source in node.input if not source.startswith('^')]
        del node.input[:]
        node.input.extend(data)
    graph_defs.prune(graph, wanted)


def _set_constants(graph, values: dict[str, np.ndarray]) -> None:
    for node in graph.node:
        if node.name in values:
            made = tf.make_tensor_proto(values[node.name])
            node.op = 'Const'
            node.attr.clear()
            node.attr['value'].tensor.CopyFrom(made)
            node.attr['dtype'].type = made.dtype


def _replace_reads(graph, variables: dict, order: Sequence[int]) -> list[tf.Variable]:
    """Makes placeholders of what reads variables, in place.

    Args:
      graph: The graph.
      variables: Variables by the names of the nodes that give their handles.
      order: The identities of variables, in the order wanted.

    Returns:
      The variables that are read; the number of each is that of its placeholder.
    """
    nodes = {node.name: node for node in graph.node}

    reads = {
        node.name: found
        for node in graph.node
        if node.op == 'ReadVariableOp'
        and (found := variables.get(_source(nodes, node.input[0]).name)) is not None
    }
    read = sorted(
        {id(v): v for v in reads.values()}.values(), key=lambda v: order.index(id(v))
    )
    number_of = {id(v): number for number, v in enumerate(read)}
    for node in graph.node:
        for place, source in enumerate(node.input):
            found = reads.get(graph_defs.node_of(source))
            if found is not None:
                node.input[place] = _placeholder(number_of[id(found)])
    for number, found in enumerate(read):
        node = graph.node.add(name=_placeholder(number), op='Placeholder')
        node.attr['dtype'].type = found.dtype.as_datatype_enum
        node.attr['shape'].shape.CopyFrom(found.shape.as_proto())
    return read


def _trainable(network) -> Callable[[tf.Variable], bool]:
    """Returns what tells whether a variable is to be trained."""
    if isinstance(network, tf.keras.Model):  # Its layers may be frozen one by one.
        chosen = {id(v) for v in network.trainable_variables}
        return lambda variable: id(variable) in chosen
    return lambda variable: variable.trainable


def _users(graph, name: str) -> frozenset[str]:
    return frozenset(node.op for node in graph.node if name in node.input)

"""Networks as pure functions of their weights, as federated training needs them.

Weights are arguments: they can be trained, left as constants or composed of others.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import reprs
from tff_transfer.graphs import graph_defs
from tff_transfer.networks import network_graphs

# Numbers of a weight that is a constant where it is frozen, at most.
_SMALL = 2**15


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

    __repr__ = reprs.of_fields


class FunctionalNetwork:
    """A network without variables, made by `tracing`.

    Attributes:
      weights: The weights that its graph reads, each one once, in the order of the
        network's own variables.
      input_spec: Dtypes and shapes of what it takes, in its structure.
      output_spec: Dtype and shape of what it gives.
      moved: The numbers of the weights that the network itself assigns, such as
        BatchNorm's moving statistics where it was traced in training.
    """

    def __init__(self, graph, inputs, weights, input_spec, output, output_spec, moved):
        """Makes a network of parts of a graph.

        Args:
          graph: A `GraphDef` of placeholders and what is computed of them.
          inputs: The names of the placeholders that are the flat inputs.
          weights: Each `Weight` by the name of its placeholder, in order.
          input_spec: As the attribute.
          output: The name of the output's node, of which it is the first output.
          output_spec: As the attribute.
          moved: By the name of a weight's placeholder, the tensor that is assigned.
        """
        self._graph, self._inputs, self._output = graph, inputs, output
        self._places, self._moves = tuple(weights), moved
        self.moved = tuple(i for i, place in enumerate(weights) if place in moved)
        self.weights: tuple[Weight, ...] = tuple(weights.values())
        self.input_spec = input_spec
        self.output_spec: tf.TensorSpec = output_spec

        self._function = tf.function(self.inline, autograph=False)

    @property
    def draws(self) -> tuple[str, ...]:
        """The nodes that draw random numbers from a hidden generator."""
        return graph_defs.stateful_nodes(self._graph)

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the operations and the weights' values.

        Names are left out, since Keras counts its layers up within a process.
        """
        return self._digest(self.weights)

    @property
    def frozen_fingerprint(self) -> str:
        """The same without the values of the weights that are to be trained."""
        return self._digest([w for w in self.weights if not w.trainable])

    def _digest(self, hashed: Sequence[Weight]) -> str:
        digest = hashlib.sha256()
        network_graphs.digest(digest, self._graph)
        for weight in self.weights:
            digest.update(f'{weight.value.dtype.str} {weight.value.shape}'.encode())
            if weight in hashed:
                digest.update(np.ascontiguousarray(weight.value).data)
        return digest.hexdigest()

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
        return self._imported(self._graph, names, [inputs, *values], [])[0]

    def inline_frozen(self, inputs) -> tf.Tensor:
        """Does the same with its own weights.

        Small ones are constants in the graph: TensorFlow computes beforehand what
        depends on them alone. For large ones that takes seconds and saves nothing.
        """
        small, large = {}, {}
        for place, weight in zip(self._places, self.weights, strict=True):
            (small if weight.value.size <= _SMALL else large)[place] = weight.value
        graph = tf.compat.v1.GraphDef()
        graph.CopyFrom(self._graph)
        network_graphs.set_constants(graph, small)
        with tf.init_scope():
            captured = [tf.constant(value) for value in large.values()]
        names = [*self._inputs, *large]
        return self._imported(graph, names, [inputs, *captured], [])[0]

    def inline_step(
        self, values: Sequence[tf.Tensor], inputs
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """As `inline`, with what the network assigns to the weights in `moved`."""
        moves = [self._moves[self._places[number]] for number in self.moved]
        names = [*self._inputs, *self._places]
        output, *moved = self._imported(self._graph, names, [inputs, *values], moves)
        return output, moved

    @property
    def below_last_dense(self) -> tuple[int, ...] | None:
        """The numbers of the weights below the last layer, if that is a dense one."""
        if self._last_input is None:
            return None
        below = graph_defs.ancestors(self._graph, self._last_input)
        return tuple(i for i, place in enumerate(self._places) if place in below)

    @functools.cached_property
    def _last_input(self) -> str | None:
        """The tensor that the last dense layer takes, if nothing goes round it."""
        nodes, name = {node.name: node for node in self._graph.node}, self._output
        own = set(self._inputs)
        while nodes[name].op != 'MatMul':
            before = [
                source
                for source in map(graph_defs.node_of, nodes[name].input)
                if own & graph_defs.ancestors(self._graph, source)
            ]
            if len(before) != 1:
                return None
            (name,) = before
        return nodes[name].input[0]

    def representation(
        self, values: Sequence[tf.Tensor], inputs
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `inline`, with what the last dense layer takes, [batch, size]."""
        names = [*self._inputs, *self._places]
        wanted = [self._last_input]
        output, taken = self._imported(self._graph, names, [inputs, *values], wanted)
        return output, taken

    def _imported(self, graph, names, tensors, moves) -> list[tf.Tensor]:
        # An import takes tensors of this very graph: identity captures others.
        feeds = {
            f'{name}:0': tf.identity(tensor)
            for name, tensor in zip(names, tf.nest.flatten(tensors), strict=True)
        }
        wanted = [f'{self._output}:0', *map(_tensor_name, moves)]
        found = tf.graph_util.import_graph_def(graph, feeds, wanted, name='network')
        found[0].set_shape(self.output_spec.shape)
        return found

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
        above = {
            place: moved
            for place, moved in self._moves.items()
            if cut in graph_defs.ancestors(self._graph, moved)
        }
        below = {p: m for p, m in self._moves.items() if p not in above}
        return (
            self._part(self._graph, self._inputs, self.input_spec, cut, spec, below),
            self._part(
                network_graphs.cut_off(self._graph, cut, spec),
                [cut],
                spec,
                self._output,
                self.output_spec,
                above,
            ),
        )

    def _part(self, graph, inputs, input_spec, output, output_spec, moved):
        kept = tf.compat.v1.GraphDef()
        kept.CopyFrom(graph)
        graph_defs.prune(kept, [output, *inputs, *moved.values()])
        present = {node.name for node in kept.node}
        weights = {
            place: weight
            for place, weight in zip(self._places, self.weights, strict=True)
            if place in present
        }
        return FunctionalNetwork(
            kept, inputs, weights, input_spec, output, output_spec, moved
        )


def _tensor_name(tensor: str) -> str:
    return tensor if ':' in tensor else f'{tensor}:0'

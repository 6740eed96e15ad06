"""From networks to pure functions of their weights.

A Keras model and an opaque SavedModel alike are traced to a graph, and what reads a
variable there becomes an argument. So no process needs to know what a network was
made of.
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tff_transfer import reprs
from tff_transfer.errors import UserError
from tff_transfer.graphs import graph_defs, graph_functions
from tff_transfer.networks import network_graphs
from tff_transfer.networks.functional import FunctionalNetwork, Weight


@dataclasses.dataclass(frozen=True, eq=False)
class Variable:
    """A variable of a graph, which knows it as a resource.

    Attributes:
      name: Its name, such as `block_1_expand/kernel:0`.
      value: What it holds.
      trainable: Whether the network's maker means it to be trained.
    """

    name: str
    value: np.ndarray
    trainable: bool

    __repr__ = reprs.of_fields


def trace(
    network: Callable[..., tf.Tensor], inputs, *, training: bool
) -> FunctionalNetwork:
    """Traces a network as it is.

    What it does besides its output is left out; but where it assigns a variable, as
    BatchNorm does in training, `FunctionalNetwork.inline_step` gives the value.

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
    traced = concrete_function(network, inputs, training=training)
    return of_traced(traced, network, inputs)


def concrete_function(
    network: Callable, inputs, *, training: bool
) -> tf.types.experimental.ConcreteFunction:
    """Does the first step of `trace`, for a network that may give any structure."""
    called = tf.function(functools.partial(network, training=training))
    return called.get_concrete_function(inputs)


def of_traced(
    traced: tf.types.experimental.ConcreteFunction, network, inputs
) -> FunctionalNetwork:
    """Does the rest of `trace`, of which it has the arguments.

    Args:
      traced: A function of the inputs alone that calls the network.
      network: As there.
      inputs: As there.
    """
    output = traced.outputs[0]
    own = traced.inputs[: len(traced.inputs) - len(traced.captured_inputs)]
    graph = traced.graph.as_graph_def()
    known = [*getattr(network, 'variables', ()), *traced.graph.variables]
    place = {id(v.handle): number for number, v in reversed([*enumerate(known)])}
    is_trainable = _trainable(network)
    captured, constants = {}, {}
    for external, internal in traced.graph.captures:
        if id(external) in place:
            captured[internal.op.name] = place[id(external)]
        elif external.dtype != tf.resource:
            constants[internal.op.name] = external.numpy()
    variables = {}
    for name, number in sorted(captured.items(), key=lambda item: item[1]):
        v = known[number]
        variables[name] = Variable(v.name, v.numpy(), is_trainable(v))
    network_graphs.set_constants(graph, constants)
    return of_graph(
        getattr(network, 'name', network),
        graph,
        [tensor.op.name for tensor in own],
        inputs,
        output.op.name,
        tf.TensorSpec(output.shape, output.dtype),
        variables,
    )


def of_graph(
    name: str,
    graph: tf.compat.v1.GraphDef,
    places: list[str],
    inputs,
    output: str,
    output_spec: tf.TensorSpec,
    variables: dict[str, Variable],
) -> FunctionalNetwork:
    """Makes a network of a graph that reads and assigns variables.

    Args:
      name: What the network is called, for messages.
      graph: The graph, which is changed.
      places: The names of the placeholders that are the flat inputs.
      inputs: Their `tf.TensorSpec`s, in the structure that the network takes.
      output: The name of the output's node, of which it is the first output.
      output_spec: The output's shape and dtype.
      variables: Variables by the names of the placeholders of their handles, in the
        order wanted of the weights.

    Raises:
      UserError: As `trace` does.
    """
    graph_functions.isolate_functions(graph)
    network_graphs.inline(graph)
    moves = network_graphs.moves(graph, variables)
    wanted = [output, *places, *moves.values()]
    network_graphs.drop_side_effects(graph, wanted)
    graph_defs.detach(graph)
    read = network_graphs.replace_reads(graph, variables)
    graph_defs.prune(graph, wanted)
    graph_functions.drop_unused(graph)
    resource = tf.resource.as_datatype_enum
    for node in graph.node:
        if 'dtype' in node.attr and node.attr['dtype'].type == resource:
            raise UserError(
                f'the network {name} cannot be trained: {node.name} is no variable that'
                ' is only read; train a head on it'
            )
    users = {place: set() for place in read}
    for node in graph.node:
        for source in users.keys() & node.input:
            users[source].add(node.op)
    weights = {
        place: Weight(v.name, v.value, v.trainable, frozenset(users[place]))
        for place, v in read.items()
    }
    moved = {place: moves[v] for place, v in read.items() if v in moves}
    return FunctionalNetwork(graph, places, weights, inputs, output, output_spec, moved)


def _trainable(network) -> Callable[[tf.Variable], bool]:
    """Returns what tells whether a variable is to be trained."""
    if isinstance(network, tf.keras.Model):  # Its layers may be frozen one by one.
        chosen = {id(v) for v in network.trainable_variables}
        return lambda variable: id(variable) in chosen
    return lambda variable: variable.trainable

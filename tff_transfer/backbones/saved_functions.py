"""The network that a SavedModel's call is, read from its files.

TensorFlow's loader makes Python objects of all functions and variables, which takes
several times as long as the one graph and the arrays that are needed. What is read
here are modules in the form of TF-Hub's feature vectors, as most are.
"""

import dataclasses
import pathlib

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2, trackable_object_graph_pb2
from tensorflow.python.saved_model import nested_structure_coder

from tff_transfer import reprs
from tff_transfer.graphs import graph_functions
from tff_transfer.networks import tracing
from tff_transfer.networks.functional import FunctionalNetwork

_IMAGES, _TRAINING = 'images', 'training'


@dataclasses.dataclass(frozen=True)
class _Function:
    """A function that a module's call was traced to.

    Attributes:
      name: Its name in the library.
      images: What it takes, float32 [batch, height, width, channels].
      tensors: Its arguments in order: names and dtypes. The images' name is `_IMAGES`.
      constants: What it is given for those besides the images and `training`.
      training: The values of `training` that it is meant for.
      output: What it gives, float32 [batch, size].
      bound: The numbers of the objects whose handles it takes after its arguments.
    """

    name: str
    images: tf.TensorSpec
    tensors: tuple[tuple[str, tf.DType], ...]
    constants: dict[str, float]
    training: tuple[bool, ...]
    output: tf.TensorSpec
    bound: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class SavedFunctions:
    """A module's call, in evaluation and in training."""

    _functions: dict[bool, _Function]
    _variables: dict[int, tracing.Variable]
    _library: object

    __repr__ = reprs.of_fields

    @property
    def images(self) -> tf.TensorSpec:
        """What it takes, float32 [batch, height, width, channels]."""
        return self._functions[False].images

    @property
    def variables(self) -> tuple[tracing.Variable, ...]:
        """The variables that it uses."""
        return tuple(self._variables.values())

    def trace(self, images: tf.TensorSpec, *, training: bool) -> FunctionalNetwork:
        """Returns it as a function of its weights, as `tracing.trace` does.

        Args:
          images: What it is to take, of shapes that `self.images` allows.
          training: Which of the two.

        Raises:
          UserError: As `tracing.trace` does.
        """
        function = self._functions[training]
        graph = tf.compat.v1.GraphDef()
        graph.library.CopyFrom(self._library)
        given = {_TRAINING: training, **function.constants}
        for name, dtype in function.tensors:
            node = graph.node.add(name=name, op='Const')
            if name == _IMAGES:
                node.op = 'Placeholder'
                node.attr['shape'].shape.CopyFrom(images.shape.as_proto())
            else:
                value = tf.make_tensor_proto(given[name], dtype)
                node.attr['value'].tensor.CopyFrom(value)
            node.attr['dtype'].type = dtype.as_datatype_enum
        handles = {number: f'handle_{number}' for number in function.bound}
        for name in handles.values():
            node = graph.node.add(name=name, op='Placeholder')
            node.attr['dtype'].type = tf.resource.as_datatype_enum
        bodies = {f.signature.name: f for f in self._library.function}
        inputs = [node.name for node in graph.node]
        graph.node.append(graph_functions.call('call', bodies[function.name], inputs))
        output = graph.node.add(name='features', op='Identity', input=['call'])
        output.attr['T'].type = tf.float32.as_datatype_enum
        shape = tf.TensorShape([images.shape[0], *function.output.shape[1:]])
        return tracing.of_graph(
            'of the SavedModel',
            graph,
            [_IMAGES],
            images,
            output.name,
            tf.TensorSpec(shape, tf.float32),
            {handles[number]: self._variables[number] for number in sorted(handles)},
        )


def read(path: pathlib.Path) -> SavedFunctions | None:
    """Reads a SavedModel.

    Args:
      path: Its folder.

    Returns:
      Its call; None where that is not from images to feature vectors, or needs more
      than variables, so that TensorFlow's loader must be asked.

    Raises:
      Exception: Whatever TensorFlow raises where files are broken.
    """
    file = path / 'saved_model.pb'
    if not file.is_file():
        return None
    model = saved_model_pb2.SavedModel()
    model.ParseFromString(file.read_bytes())
    if len(model.meta_graphs) != 1:
        return None
    objects = model.meta_graphs[0].object_graph_def
    functions = _functions(objects)
    if functions is None:
        return None
    library = _library(
        model.meta_graphs[0].graph_def.library, {f.name for f in functions.values()}
    )
    bound = {number for f in functions.values() for number in f.bound}
    if library is None or any(
        objects.nodes[number].WhichOneof('kind') != 'variable' for number in bound
    ):
        return None
    return SavedFunctions(functions, _variables(path, objects, bound), library)


def _functions(objects) -> dict[bool, _Function] | None:
    """Returns the functions of a module's call by `training`."""
    if not objects.nodes:
        return None
    children = {child.local_name: child.node_id for child in objects.nodes[0].children}
    if '__call__' not in children:
        return None
    call = objects.nodes[children['__call__']].function
    functions = [
        _function(name, objects.concrete_functions[name], call)
        for name in call.concrete_functions
    ]
    if None in functions or len({f.images for f in functions}) != 1:
        return None
    # Keras saves equal ones under two names of the images.
    found = {value: f for f in functions for value in f.training}
    return found if len(found) == 2 else None


def _function(name: str, saved, call) -> _Function | None:
    """Returns a function of a call, if it can be given all arguments but images."""
    decode = nested_structure_coder.decode_proto
    positional, named = decode(saved.canonicalized_input_signature)
    signature = decode(call.function_spec.fullargspec)
    names = signature.args[1:] if call.function_spec.is_method else signature.args
    last = names[len(names) - len(signature.defaults or ()) :]
    defaults = dict(zip(last, signature.defaults or (), strict=True))
    defaults |= signature.kwonlydefaults or {}
    arguments = [*zip(names, positional, strict=False), *sorted(named.items())]
    images, tensors, constants, meant = [], [], {}, (False, True)
    for argument, value in arguments:
        if isinstance(value, tf.TensorSpec):
            if value.dtype == tf.float32 and value.shape.rank == 4:
                images.append(tf.TensorSpec(value.shape, value.dtype))
                argument = _IMAGES
            elif argument != _TRAINING and value.shape.rank == 0:
                constants[argument] = defaults.get(argument)
            elif (value.shape.rank, value.dtype) != (0, tf.bool):
                return None
            tensors.append((argument, value.dtype))
        elif argument == _TRAINING:
            meant = (value,)
        elif value != defaults.get(argument):
            return None
    output = decode(saved.output_signature)
    if (
        len(images) != 1
        or images[0].shape[0] is not None
        or None in constants.values()
        or not isinstance(meant[0], bool)
        or not isinstance(output, tf.TensorSpec)
        or output.dtype != tf.float32
        or output.shape.rank != 2
        or output.shape[1] is None
    ):
        return None
    return _Function(
        name,
        images[0],
        tuple(tensors),
        constants,
        meant,
        output,
        tuple(saved.bound_inputs),
    )


def _library(library, names: set[str]):
    """Returns the functions of these names and all that they use.

    None where one has a gradient of its own, which the loader would register, or is
    called as an operation.
    """
    calls = [tf.compat.v1.NodeDef(name=name, op=name) for name in names]
    graph = tf.compat.v1.GraphDef(library=library, node=calls)
    used = graph_functions.drop_unused(graph)
    nodes = [node for function in used.values() for node in function.node_def]
    if any(n.op in used or '_gradient_op_type' in n.attr for n in nodes):
        return None
    return graph.library


def _variables(path: pathlib.Path, objects, numbers) -> dict[int, tracing.Variable]:
    """Returns variables with their values by the numbers of their objects."""
    reader = tf.train.load_checkpoint(str(path / 'variables' / 'variables'))
    saved = trackable_object_graph_pb2.TrackableObjectGraph()
    saved.ParseFromString(reader.get_tensor('_CHECKPOINTABLE_OBJECT_GRAPH'))
    # The same objects have other numbers there: they are known by the way to them.
    place, todo = {0: 0}, [0]
    while todo:
        number = todo.pop()
        there = saved.nodes[place[number]].children
        ways = {child.local_name: child.node_id for child in there}
        for child in objects.nodes[number].children:
            if child.local_name in ways and child.node_id not in place:
                place[child.node_id] = ways[child.local_name]
                todo.append(child.node_id)
    variables = {}
    for number in numbers:
        variable = objects.nodes[number].variable
        (key,) = [
            attribute.checkpoint_key
            for attribute in saved.nodes[place[number]].attributes
            if attribute.name == 'VARIABLE_VALUE'
        ]
        variables[number] = tracing.Variable(
            f'{variable.name}:0', reader.get_tensor(key), variable.trainable
        )
    return variables

"""A pretrained network with the preprocessing that it wants."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tff_transfer.backbones.preprocessing import Preprocessing

# What differs between two loadings of one network, or between two machines.
_INCIDENTAL_ATTRIBUTES = frozenset(
    ['shared_name', 'container', 'config', 'config_proto', 'executor_type']
)


@dataclasses.dataclass(frozen=True, eq=False)
class Backbone:
    """Maps raw images to feature vectors.

    Tracing `network(preprocess(images), training=False)` inside a `tf.function` of
    an object that holds `network` is all that an export needs: `network` is
    trackable, so `tf.saved_model.save` finds its weights.

    Attributes:
      name: A short name for reports.
      handle: What it was loaded from.
      network: Maps float32 [batch, *image_size, channels], which `preprocess` gives,
        to float32 [batch, *feature_shape]; takes `training` as a keyword. A Keras
        layer or a `tf.Module`.
      preprocess: Maps raw images to what `network` takes.
      feature_shape: The shape of an image's features: (size,), or (height, width,
        channels) of activations inside a network.
      fingerprint: SHA-256, in hexadecimal, of the weights, of the operations that
        use them, and of the preprocessing: equal for equal features.
    """

    name: str
    handle: str
    network: Callable[..., tf.Tensor]
    preprocess: Preprocessing
    feature_shape: tuple[int, ...]
    fingerprint: str

    @property
    def feature_size(self) -> int:
        """The length of a feature vector."""
        return self.feature_shape[-1]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images that the network sees."""
        return self.preprocess.image_size

    @property
    def value_range(self) -> tuple[float, float]:
        """What black and white become, before a family's own `preprocess_input`."""
        return self.preprocess.value_range

    @functools.cached_property
    def _traced(self):
        return tf.function(
            lambda images: self.network(self.preprocess(images), training=False),
            autograph=False,
        )

    def __call__(self, images) -> tf.Tensor:
        """Returns the features of raw images, traced once for each image shape.

        Args:
          images: [batch, height, width, 1 or 3], uint8 in [0, 255] or floating in
            [0, 1]; a tensor or an array.

        Returns:
          float32 [batch, *feature_shape].

        Raises:
          UserError: Another shape or dtype.
        """
        images = tf.convert_to_tensor(images)
        any_batch = tf.TensorSpec([None, *images.shape[1:]], images.dtype)
        return self._traced.get_concrete_function(any_batch)(images)


def fingerprint(
    traced: tf.types.experimental.ConcreteFunction, preprocess: Preprocessing
) -> str:
    """Returns a SHA-256 of a network's weights, operations and preprocessing.

    Names are left out, since Keras counts its layers up within a process.

    Args:
      traced: The network, traced on its images.
      preprocess: What is done to the images before.
    """
    digest = hashlib.sha256(repr(preprocess).encode())
    graph = traced.graph.as_graph_def()
    functions = {f.signature.name: f for f in graph.library.function}
    _digest_nodes(digest, graph.node, [], functions)
    for captured in traced.captured_inputs:
        for value in _values(captured):
            digest.update(f'{value.dtype.str} {value.shape}'.encode())
            digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()


def _values(captured: tf.Tensor) -> list[np.ndarray]:
    """Returns what a captured tensor holds: a variable's value or its own."""
    if captured.dtype != tf.resource:
        return [captured.numpy()]
    held = captured._handle_data  # No public name leads from a handle to its dtype.
    return [
        tf.raw_ops.ReadVariableOp(
            resource=captured, dtype=tf.dtypes.as_dtype(each.dtype)
        ).numpy()
        for each in (held.shape_and_type if held else [])
    ]


def _digest_nodes(digest, nodes, arguments, functions) -> None:
    """Adds operations, their wiring and their constants to `digest`, without names.

    Args:
      digest: Takes the bytes.
      nodes: The `NodeDef`s of a graph or of one function.
      arguments: The names of the function's arguments.
      functions: Every `FunctionDef`, by name.
    """
    names = [*arguments, *(node.name for node in nodes)]
    place = {name: str(number) for number, name in enumerate(names)}

    def wire(source: str) -> bytes:
        name, *output = source.lstrip('^').split(':')
        return ':'.join([place[name], *output]).encode()

    def call(name: str) -> None:
        function = functions[name]
        inside = [argument.name for argument in function.signature.input_arg]
        _digest_nodes(digest, function.node_def, inside, functions)

    for node in nodes:
        digest.update(b'call' if node.op in functions else node.op.encode())
        for source in node.input:
            digest.update(wire(source))
        for key in sorted(node.attr):
            if key.startswith('_') or key in _INCIDENTAL_ATTRIBUTES:
                continue
            value = node.attr[key]
            called = [value.func] if value.HasField('func') else value.list.func
            for function in called:
                call(function.name)
            if not called:
                digest.update(key.encode())
                digest.update(value.SerializeToString(deterministic=True))
        if node.op in functions:
            call(node.op)

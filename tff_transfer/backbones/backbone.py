"""A pretrained network with the preprocessing that it wants."""

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable

import tensorflow as tf

from tff_transfer.backbones.preprocessing import Preprocessing
from tff_transfer.errors import UserError, one_line
from tff_transfer.networks.functional import FunctionalNetwork


@dataclasses.dataclass(frozen=True, eq=False)
class Backbone:
    """Maps raw images to feature vectors.

    Attributes:
      name: A short name for reports.
      handle: What it was loaded from.
      preprocess: Maps raw images to what the network takes.
      trace: Returns the network, as it was loaded, as a function of its weights that
        maps what `preprocess` gives, float32 [batch, *image_size, channels], to a
        feature vector; with `training=True` by the statistics of batches in
        BatchNorm, or else by those that the backbone comes with. It raises
        `UserError` where the network cannot be trained (`tracing.trace`).
      functional: The same in evaluation; or a part of it, to activations inside.
        Federated clients are trained so unless asked otherwise: they see few examples
        of few classes, whose statistics are another network's (TFF's issue 910).
      keras_model: What it was loaded from, where that is a Keras model.
    """

    name: str
    handle: str
    preprocess: Preprocessing
    trace: Callable[..., FunctionalNetwork]
    functional: FunctionalNetwork
    keras_model: tf.keras.Model | None

    def __repr__(self) -> str:
        weights = sum(weight.value.size for weight in self.functional.weights)
        return (
            f'Backbone {self.name}\n{self.preprocess}\nto features'
            f' {list(self.feature_shape)}, {weights:,} weights'
        )

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal: equal for equal features.

        Of weights, operations and preprocessing.
        """
        content = f'{self.preprocess} {self.functional.fingerprint}'
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def feature_shape(self) -> tuple[int, ...]:
        """The shape of an image's features.

        (size,), or (height, width, channels) of activations inside a network.
        """
        return tuple(self.functional.output_spec.shape[1:])

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
            lambda images: self.functional.inline_frozen(self.preprocess(images)),
            autograph=False,
        )

    def _of_images(self, shape, dtype) -> tf.types.experimental.ConcreteFunction:
        any_batch = tf.TensorSpec([None, *shape], dtype)
        with meets_images(self.name, self.preprocess):
            return self._traced.get_concrete_function(any_batch)

    def step_bytes(self, images) -> int:
        """Returns the most bytes that one step reads and writes for an image.

        Args:
          images: Raw images [n, height, width, 1 or 3].
        """
        graph = self._of_images(images.shape[1:], images.dtype).graph
        return max(
            sum(map(_bytes, [*step.inputs, *step.outputs]))
            for step in graph.get_operations()
        )

    def __call__(self, images) -> tf.Tensor:
        """Returns the features of raw images, traced once for each image shape.

        Args:
          images: [batch, height, width, 1 or 3], uint8 in [0, 255] or floating in
            [0, 1]; a tensor or an array.

        Returns:
          float32 [batch, *feature_shape].

        Raises:
          UserError: Another shape or dtype, or images of a size that the network
            cannot take.
        """
        images = tf.convert_to_tensor(images)
        return self._of_images(images.shape[1:], images.dtype)(images)


def _bytes(tensor: tf.Tensor) -> int:
    """Returns the bytes of an image's part of a batch, if it is one of known size."""
    if tensor.shape.rank is None or not tensor.shape[1:].is_fully_defined():
        return 0
    known = tensor.shape[:1] != [None]
    return 0 if known else tensor.shape[1:].num_elements() * tensor.dtype.size


@contextlib.contextmanager
def meets_images(name: str, preprocess: Preprocessing):
    """Makes one line of what a network says to images that it cannot take.

    Such as those that are too small for its strides.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # A foreign network may raise anything.
        height, width = preprocess.image_size
        raise UserError(
            f'backbone {name} cannot be called with images of {height} x {width} pixels'
            f' ({one_line(error)}); give another image size or another backbone'
        ) from error

"""From the parts of a generative network to the model that is trained."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tff_transfer.models.generative.tasks import of_terms
from tff_transfer.models.model import Model, from_keras
from tff_transfer.networks import tracing

# Calls a part by its name, with the weights of the moment, on tensors.
Call = Callable[[str, Sequence[tf.Tensor]], tf.Tensor]


class Architecture(Protocol):
    """What a kind of generative model is.

    Attributes:
      terms: The names of the terms of the loss (see `tasks.of_terms`).
    """

    terms: Sequence[str]

    def parts(
        self, image_shape: Sequence[int], num_classes: int, seed: int
    ) -> dict[str, tf.keras.Model]:
        """Makes the networks that are trained, by name, with their initial weights."""

    def losses(
        self,
        parts: Mapping[str, tf.keras.Model],
        images: tf.Tensor,
        labels: tf.Tensor,
        keys: tf.Tensor,
    ) -> Sequence[tf.Tensor]:
        """Returns the terms of each example, float32 [batch] each.

        Args:
          parts: What `parts` gives.
          images: float32 [batch, height, width, channels] in [0, 1].
          labels: float32 [batch, classes], one-hot.
          keys: int32 [batch, 2], of what is drawn.
        """

    def generate(
        self, call: Call, image_shape: Sequence[int], labels: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        """Returns an image for each label, float32 [n, height, width, channels].

        Args:
          call: Calls a part.
          image_shape: Height, width and channels.
          labels: float32 [n, classes], one-hot.
          key: int32 [2], of all that is drawn.
        """


def build(
    architecture: Architecture,
    image_shape: Sequence[int],
    num_classes: int,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float32,
) -> Model:
    """Makes a model of an architecture.

    Args:
      architecture: What kind of model it is.
      image_shape: Height, width and channels of the images.
      num_classes: Classes, on which it is conditioned.
      seed: The seed of the initial weights.
      dtype: The images' dtype; uint8 in [0, 255] is scaled to [0, 1].

    Returns:
      The model; its inputs are `inputs`, images [batch, *image_shape], `key` and
      `label`.
    """
    parts = architecture.parts(image_shape, num_classes, seed)
    inputs = {
        'inputs': tf.keras.Input(tuple(image_shape), dtype=np.dtype(dtype).name),
        'key': tf.keras.Input((2,), dtype=tf.int32),
        'label': tf.keras.Input((), dtype=tf.int32),
    }
    images = inputs['inputs']
    if np.dtype(dtype) == np.uint8:
        images = tf.keras.layers.Rescaling(1 / 255)(images)
    labels = tf.one_hot(inputs['label'], num_classes)
    terms = architecture.losses(parts, images, labels, inputs['key'])
    network = tf.keras.Model(inputs, tf.stack(terms, axis=1))
    model = from_keras(network, of_terms(architecture.terms))
    values_of_part = _values_by_part(parts, model)

    @tf.function(autograph=False)
    def generate(weights, labels, key):
        def call(name, tensors):
            return values_of_part[name](weights, tensors)

        return architecture.generate(
            call, image_shape, tf.one_hot(labels, num_classes), key
        )

    return dataclasses.replace(
        model,
        representation=None,
        trains_representation=False,
        parts={name: _numbers(part, model) for name, part in parts.items()},
        generate=generate,
    )


def _numbers(part: tf.keras.Model, model: Model) -> frozenset[int]:
    """Returns the numbers of a part's weights among those that are trained."""
    own = {id(variable) for variable in part.trainable_variables}
    trained = model.network.trainable_variables
    return frozenset(i for i, variable in enumerate(trained) if id(variable) in own)


def _values_by_part(
    parts: Mapping[str, tf.keras.Model], model: Model
) -> dict[str, Callable]:
    """Returns a function of (the model's weights, tensors) for each part."""
    trained = model.network.trainable_variables
    place = {id(variable): number for number, variable in enumerate(trained)}

    def function_of(part):
        specs = [tf.TensorSpec(each.shape, each.dtype) for each in part.inputs]
        traced = tracing.trace(part, specs, training=False)
        places = [place.get(id(variable)) for variable in part.variables]

        def called(weights, tensors):
            values = [
                own.value if number is None else weights[number]
                for number, own in zip(places, traced.weights, strict=True)
            ]
            return traced.inline(values, list(tensors))

        return called

    return {name: function_of(part) for name, part in parts.items()}

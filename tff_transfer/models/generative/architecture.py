"""From the networks of a generative model to what is trained."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tff_transfer.errors import UserError
from tff_transfer.models.generative.tasks import of_terms
from tff_transfer.models.model import Model, from_keras
from tff_transfer.networks import tracing

Networks = Mapping[str, tf.keras.Model]

# Calls a network by its name, with the weights of the moment, on tensors.
Call = Callable[[str, Sequence[tf.Tensor]], tf.Tensor]

# What is measured of a model that stays near the one that it started from.
DISTILLATION = 'distillation'


class Architecture(Protocol):
    """What a kind of generative model is.

    Attributes:
      terms: The names of the terms of the loss (see `tasks.of_terms`).
    """

    terms: Sequence[str]

    def networks(
        self, image_shape: Sequence[int], num_classes: int, seed: int
    ) -> dict[str, tf.keras.Model]:
        """Makes what is trained, by name, with the initial weights.

        The names of layers begin with that of the model's part that they are of, up to
        `_`: `decoder_first` is of the part `decoder`.
        """

    def losses(
        self,
        networks: Networks,
        images: tf.Tensor,
        labels: tf.Tensor,
        keys: tf.Tensor,
        teachers: Networks | None = None,
    ) -> Sequence[tf.Tensor]:
        """Returns the terms of each example, float32 [batch] each.

        Args:
          networks: What `networks` gives.
          images: float32 [batch, height, width, channels] in [0, 1].
          labels: float32 [batch, classes], one-hot.
          keys: int32 [batch, 2], of what is drawn.
          teachers: The same networks with the weights of the start. Then a last term
            is how far what is generated, or predicted for it, is from theirs at the
            same draws.
        """

    def generate(
        self, call: Call, image_shape: Sequence[int], labels: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        """Returns an image for each label, float32 [n, height, width, channels].

        Args:
          call: Calls a network.
          image_shape: Height, width and channels.
          labels: float32 [n, classes], one-hot.
          key: int32 [2], of all that is drawn.
        """


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What a model takes from one that was trained before.

    Attributes:
      start: The weights of each network by its name, in the order of its layers;
        drawn ones if not given.
      frozen: The parts, by name, that stay as they are.
      distill_weight: What the distance from the model of the start is multiplied by
        in the loss; None leaves it out.
    """

    start: Mapping[str, Sequence[np.ndarray]] | None = None
    frozen: Sequence[str] = ()
    distill_weight: float | None = None


def build(
    architecture: Architecture,
    image_shape: Sequence[int],
    num_classes: int,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float32,
    transfer: Transfer = Transfer(),
) -> Model:
    """Makes a model of an architecture.

    Args:
      architecture: What kind of model it is.
      image_shape: Height, width and channels of the images.
      num_classes: Classes, on which it is conditioned.
      seed: The seed of the initial weights.
      dtype: The images' dtype; uint8 in [0, 255] is scaled to [0, 1].
      transfer: What it takes from another model.

    Returns:
      The model; its inputs are `inputs`, images [batch, *image_shape], `key` and
      `label`.

    Raises:
      UserError: There is no part of a name, or all are frozen.
    """
    networks = architecture.networks(image_shape, num_classes, seed)
    for name, weights in (transfer.start or {}).items():
        networks[name].set_weights(weights)
    teachers, names, factors = None, [*architecture.terms], None
    if transfer.distill_weight is not None:
        teachers = {name: _frozen_copy(network) for name, network in networks.items()}
        factors = [*[1.0] * len(names), transfer.distill_weight]
        names.append(DISTILLATION)
    freeze(networks, transfer.frozen)
    inputs = {
        'inputs': tf.keras.Input(tuple(image_shape), dtype=np.dtype(dtype).name),
        'key': tf.keras.Input((2,), dtype=tf.int32),
        'label': tf.keras.Input((), dtype=tf.int32),
    }
    images = inputs['inputs']
    if np.dtype(dtype) == np.uint8:
        images = tf.keras.layers.Rescaling(1 / 255)(images)
    labels = tf.one_hot(inputs['label'], num_classes)
    terms = architecture.losses(networks, images, labels, inputs['key'], teachers)
    whole = tf.keras.Model(inputs, tf.stack(terms, axis=1))
    model = from_keras(whole, of_terms(names, factors))
    place = {id(v): number for number, v in enumerate(whole.trainable_variables)}
    functions = {name: _function(each, place) for name, each in networks.items()}

    @tf.function(autograph=False)
    def generate(weights, labels, key):
        def call(name, tensors):
            return functions[name](weights, tensors)

        return architecture.generate(
            call, image_shape, tf.one_hot(labels, num_classes), key
        )

    parts = {
        name: {place[id(v)] for layer in layers for v in layer.trainable_variables}
        for name, layers in layers_of(networks).items()
        if name not in transfer.frozen
    }
    return dataclasses.replace(
        model,
        representation=None,
        trains_representation=False,
        parts={name: frozenset(numbers) for name, numbers in parts.items()},
        generate=generate,
        networks=networks,
    )


def layers_of(networks: Networks) -> dict[str, list[tf.keras.layers.Layer]]:
    """Returns the layers that have weights, by the part of the model they are of."""
    found = {}
    for network in networks.values():
        for layer in network.layers:
            if layer.weights:
                found.setdefault(layer.name.partition('_')[0], []).append(layer)
    return found


def freeze(networks: Networks, names: Sequence[str]) -> None:
    """Has the layers of some parts not be trained.

    Raises:
      UserError: There is no part of a name, or nothing else is left.
    """
    parts = layers_of(networks)
    known = ', '.join(parts)
    for name in names:
        if name not in parts:
            raise UserError(f'the model has no part {name!r} to freeze; it has {known}')
        for layer in parts[name]:
            layer.trainable = False
    if set(names) == set(parts):
        raise UserError(
            f'the parts {known} are all that the model has, and all are frozen; leave'
            ' one out of --frozen_parts'
        )


def _frozen_copy(network: tf.keras.Model) -> tf.keras.Model:
    copy = tf.keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    copy.trainable = False
    # A network has no two layers of one name.
    return tf.keras.Model(copy.inputs, copy.outputs, name=f'taught_{network.name}')


def all_weights(
    model: Model, weights: Sequence[np.ndarray]
) -> dict[str, list[np.ndarray]]:
    """Returns the weights of a generative model's networks, frozen ones too.

    Args:
      model: The model.
      weights: Its trained weights.

    Returns:
      Of each network by its name, in the order of its layers (`Transfer.start`).
    """
    place = {id(v): i for i, v in enumerate(model.network.trainable_variables)}

    def value(variable):
        number = place.get(id(variable))
        return variable.numpy() if number is None else np.asarray(weights[number])

    return {
        # Of the network itself they are in another order once some are frozen.
        name: [value(own) for layer in network.layers for own in layer.weights]
        for name, network in model.networks.items()
    }


def _function(network: tf.keras.Model, place: Mapping[int, int]) -> Callable:
    """Returns a network as a function of (a model's trained weights, its inputs).

    Args:
      network: The network, of which each weight is read.
      place: The numbers of the model's trained weights, by their variables' identity.
    """
    specs = [tf.TensorSpec(each.shape, each.dtype) for each in network.inputs]
    traced = tracing.trace(network, specs, training=False)
    places = [place.get(id(variable)) for variable in network.variables]

    def called(weights, tensors):
        values = [
            own.value if number is None else weights[number]
            for number, own in zip(places, traced.weights, strict=True)
        ]
        return traced.inline(values, list(tensors))

    return called

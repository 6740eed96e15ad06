"""Group normalization instead of BatchNorm."""

import dataclasses
import functools

import tensorflow as tf

from tff_transfer.backbones.backbone import Backbone
from tff_transfer.errors import UserError
from tff_transfer.networks import tracing

# As Wu & He 2018, "Group normalization", and Hsieh et al. 2020, "The non-IID data
# quagmire of decentralized machine learning", for small batches of unlike clients.
_CHANNELS_OF_A_GROUP = 16


def groups(channels: int) -> int:
    """Returns into how many groups of 16 channels, or a few more, channels divide."""
    most = max(1, channels // _CHANNELS_OF_A_GROUP)
    return next(count for count in range(most, 0, -1) if channels % count == 0)


def replaced(backbone: Backbone) -> Backbone:
    """Returns a backbone with group normalization in place of each BatchNorm.

    All weights are kept, scales and shifts too. But what is normalised differs, so
    pretrained weights are only a start: the field trains such networks from scratch.

    Args:
      backbone: A Keras network with BatchNorm at any depth; it stays as it is.

    Returns:
      The other backbone.

    Raises:
      UserError: It is no Keras network of layers, or has no BatchNorm.
    """
    network = backbone.keras_model
    if network is None:
        raise UserError(
            f'the backbone {backbone.name} is a SavedModel, whose layers cannot be'
            ' replaced; use a network by name or a Keras model, or another --batch_norm'
        )
    pairs = []

    def copy(layer):
        if isinstance(layer, tf.keras.Model):
            return tf.keras.models.clone_model(layer, clone_function=copy)
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            made = _like(layer)
        else:
            made = layer.__class__.from_config(layer.get_config())
        pairs.append((layer, made))
        return made

    try:
        made = copy(network)
    except ValueError as error:  # A subclassed model has no graph of layers.
        raise UserError(
            f'the backbone {backbone.name} is a Keras model of its own class, whose'
            ' layers cannot be replaced; use another --batch_norm'
        ) from error
    if all(type(old) is type(new) for old, new in pairs):
        raise UserError(
            f'the backbone {backbone.name} has no BatchNorm to replace; leave'
            ' --batch_norm out'
        )
    for old, new in pairs:
        kept = len(new.weights)  # BatchNorm's statistics come last.
        new.set_weights(old.get_weights()[:kept])
    trace = functools.partial(tracing.trace, made, backbone.functional.input_spec)
    return dataclasses.replace(
        backbone, trace=trace, functional=trace(training=False), keras_model=made
    )


def _like(layer) -> tf.keras.layers.GroupNormalization:
    """Returns the group normalization of the same channels, not built yet."""
    (axis,) = layer.axis
    return tf.keras.layers.GroupNormalization(
        groups(layer.input_shape[axis]),
        axis,
        epsilon=layer.epsilon,
        center=layer.center,
        scale=layer.scale,
        name=layer.name,
        trainable=layer.trainable,
    )

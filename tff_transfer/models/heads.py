"""Heads of the user's own."""

from collections.abc import Callable

import tensorflow as tf

from tff_transfer.errors import UserError


def own(
    make: Callable[[int, int], tf.keras.Model], feature_size: int, num_classes: int
) -> tf.keras.Model:
    """Makes a head of the user's own, and checks that it can be one.

    Args:
      make: A function of (feature size, classes) that makes a Keras network.
      feature_size: Features of an example.
      num_classes: Classes.

    Returns:
      The network, which takes features float32 [batch, feature_size], or a dict of
      `inputs` and `key` (see `models.from_keras`), to float32 [batch, num_classes].

    Raises:
      UserError: It makes anything else.
    """
    network = make(feature_size, num_classes)
    if not isinstance(network, tf.keras.Model):
        raise UserError(
            f'the head gives a {type(network).__name__}, but must give a tf.keras.Model'
        )
    if not network.inputs:
        raise UserError(
            f'the head {network.name} does not know its inputs; begin it with'
            f' tf.keras.Input(({feature_size},))'
        )
    given = network.input
    if isinstance(given, dict) and given.keys() == {'inputs', 'key'}:
        given = given['inputs']
    found = getattr(given, 'shape', 'several')
    if tuple(found) != (None, feature_size):
        raise UserError(
            f'the head {network.name} takes inputs of shape {found}, but the backbone'
            f' gives features of shape {(None, feature_size)}'
        )
    found = getattr(network.output, 'shape', 'several')
    if tuple(found) != (None, num_classes):
        raise UserError(
            f'the head {network.name} gives outputs of shape {found}, but there are'
            f' {num_classes} classes; end it with tf.keras.layers.Dense({num_classes})'
        )
    return network

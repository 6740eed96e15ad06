"""Small networks by name: dense layers, as heads or alone, and the EMNIST network."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tff_transfer import memory, randomness
from tff_transfer.errors import UserError
from tff_transfer.models.model import Model, from_keras
from tff_transfer.networks import keras_layers

# Of all weights in training: the server's, a client's, its gradient and its update.
_COPIES = 4


def mlp(
    input_shape: Sequence[int],
    num_classes: int,
    hidden_units: Sequence[int] = (),
    dropout: float = 0.0,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float32,
    *,
    cosine: bool = False,
) -> Model:
    """Makes a head or a network of its own: dense layers with ReLU, then logits.

    Args:
      input_shape: Shape of one input, such as (feature size,) or an image's.
      num_classes: Classes.
      hidden_units: Sizes of the hidden layers; none makes a linear model, which
        starts at zero.
      dropout: Dropout rate after each hidden layer.
      seed: The seed of the initial weights (Glorot uniform; biases are zero).
      dtype: The inputs' dtype; uint8 in [0, 255] is scaled to [0, 1].
      cosine: Whether logits are scaled cosines (`keras_layers.CosineDense`) instead
        of a dense layer's.

    Returns:
      The model; its inputs are [batch, *input_shape].

    Raises:
      UserError: Its weights do not fit in memory.
    """
    sizes = [math.prod(input_shape), *hidden_units, num_classes]
    check_fits(sum(a * b for a, b in itertools.pairwise(sizes)))
    inputs, hidden = _inputs(input_shape, dtype)
    key = tf.keras.Input((2,), dtype=tf.int32, name='key')
    if len(input_shape) > 1:
        hidden = tf.keras.layers.Flatten()(hidden)
    for index, units in enumerate(hidden_units):
        hidden = tf.keras.layers.Dense(
            units, 'relu', kernel_initializer=glorot(seed, index)
        )(hidden)
        if dropout:
            hidden = keras_layers.KeyedDropout(dropout, index)([hidden, key])
    last = glorot(seed, len(hidden_units)) if hidden_units or cosine else 'zeros'
    layer = keras_layers.CosineDense if cosine else tf.keras.layers.Dense
    logits = layer(num_classes, kernel_initializer=last)(hidden)
    if dropout and hidden_units:
        inputs = {'inputs': inputs, 'key': key}
    return from_keras(tf.keras.Model(inputs, logits))


def cnn(
    image_shape: Sequence[int],
    num_classes: int,
    dropout: float = 0.0,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float32,
) -> Model:
    """Makes the EMNIST network: two 5x5 convolutions, pooled, and a dense layer.

    McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from
    Decentralized Data", section 3, with 128 dense units instead of 512.

    Args:
      image_shape: Height, width and channels of the images.
      num_classes: Classes.
      dropout: Dropout rate after the dense layer.
      seed: The seed of the initial weights.
      dtype: The images' dtype; uint8 in [0, 255] is scaled to [0, 1].

    Returns:
      The model; its inputs are images [batch, *image_shape].

    Raises:
      UserError: The images are too small to be halved twice, or too large for the
        weights to fit in memory.
    """
    height, width = image_shape[:2]
    if min(height, width) < 4:
        raise UserError(
            f'images of {height} x {width} pixels are too small for the CNN, which'
            ' halves them twice; give at least 4 x 4, or use --model=mlp'
        )
    check_fits((height // 4) * (width // 4) * 64 * 128)
    inputs, hidden = _inputs(image_shape, dtype)
    key = tf.keras.Input((2,), dtype=tf.int32, name='key')
    for index, filters in enumerate((32, 64)):
        hidden = tf.keras.layers.Conv2D(
            filters,
            5,
            padding='same',
            activation='relu',
            kernel_initializer=glorot(seed, index),
        )(hidden)
        hidden = tf.keras.layers.MaxPool2D()(hidden)
    hidden = tf.keras.layers.Flatten()(hidden)
    hidden = tf.keras.layers.Dense(128, 'relu', kernel_initializer=glorot(seed, 2))(
        hidden
    )
    if dropout:
        hidden = keras_layers.KeyedDropout(dropout, 0)([hidden, key])
        inputs = {'inputs': inputs, 'key': key}
    logits = tf.keras.layers.Dense(num_classes, kernel_initializer=glorot(seed, 3))(
        hidden
    )
    return from_keras(tf.keras.Model(inputs, logits))


def check_fits(
    weights: int, instead: str = 'give smaller --hidden_units or smaller images'
) -> None:
    """Refuses a network whose weights, of float32, clearly do not fit in memory."""
    memory.check_fits(
        f'a network of {weights:,} weights, {_COPIES} times in training,',
        weights * 4 * _COPIES,
        instead,
    )


def _inputs(shape: Sequence[int], dtype: npt.DTypeLike):
    """Returns an input layer's tensor and the same in float32."""
    inputs = tf.keras.Input(tuple(shape), dtype=np.dtype(dtype).name, name='inputs')
    if np.dtype(dtype) == np.uint8:
        return inputs, tf.keras.layers.Rescaling(1 / 255)(inputs)
    return inputs, inputs


def glorot(seed: int, index: int) -> tf.keras.initializers.Initializer:
    """Returns the initializer of a network's layer of this number."""
    draw = randomness.generator(seed, 'initial weights', index)
    return tf.keras.initializers.GlorotUniform(seed=int(draw.integers(2**31 - 1)))

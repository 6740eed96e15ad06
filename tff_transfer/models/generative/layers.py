"""Layers with names, and with initial weights that hang on a seed alone."""

import tensorflow as tf

from tff_transfer.models.small import glorot


class Layers:
    """Makes layers one after another; each has initial weights of its own.

    They are Glorot's uniform ones, or zeros, and biases are zero.

    Args:
      seed: The seed of the initial weights.
    """

    def __init__(self, seed: int):
        self._seed, self._number = seed, -1

    def dense(
        self, name: str, units: int, activation: str | None = None
    ) -> tf.keras.layers.Layer:
        """Makes a dense layer."""
        return tf.keras.layers.Dense(
            units, activation, kernel_initializer=self._next(), name=name
        )

    def conv(
        self,
        name: str,
        filters: int,
        activation: str | None = None,
        *,
        strides: int = 1,
        zeros: bool = False,
    ) -> tf.keras.layers.Layer:
        """Makes a 3 x 3 convolution, which keeps the size but for the strides."""
        initializer = self._next()
        return tf.keras.layers.Conv2D(
            filters,
            3,
            strides=strides,
            padding='same',
            activation=activation,
            kernel_initializer='zeros' if zeros else initializer,
            name=name,
        )

    def raised(
        self, name: str, filters: int, activation: str | None = None
    ) -> tf.keras.layers.Layer:
        """Makes a transposed 3 x 3 convolution of twice the size."""
        return tf.keras.layers.Conv2DTranspose(
            filters,
            3,
            strides=2,
            padding='same',
            activation=activation,
            kernel_initializer=self._next(),
            name=name,
        )

    def _next(self) -> tf.keras.initializers.Initializer:
        self._number += 1
        return glorot(self._seed, self._number)

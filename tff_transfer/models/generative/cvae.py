"""A conditional variational autoencoder."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import tensorflow as tf

from tff_transfer.models.generative.architecture import Call
from tff_transfer.models.small import glorot
from tff_transfer.networks.keras_layers import KeyedNormal

_FILTERS, _UNITS = (16, 32), 128


@dataclasses.dataclass(frozen=True)
class CVAE:
    """A variational autoencoder whose encoder and decoder are told the class.

    Kingma & Welling 2014, "Auto-encoding variational Bayes", with labels as Sohn, Lee,
    Yan 2015, "Learning structured output representation using deep conditional
    generative models". Two convolutions of stride 2 and a dense layer each way. The
    terms of the negative evidence lower bound are, in nats of an image,
    `reconstruction`, the cross-entropy between pixels in [0, 1] and the decoder's
    probabilities (Bernoulli), and `divergence`, the Kullback-Leibler divergence of the
    encoder's normal distribution from the standard one.

    Attributes:
      latent_size: Numbers of the latent code.
    """

    latent_size: int = 16

    terms = ('reconstruction', 'divergence')

    def parts(
        self, image_shape: Sequence[int], num_classes: int, seed: int
    ) -> dict[str, tf.keras.Model]:
        """Makes `encoder` and `decoder` (see `Architecture`)."""
        return {
            'encoder': self._encoder(image_shape, num_classes, seed),
            'decoder': self._decoder(image_shape, num_classes, seed),
        }

    def _encoder(self, image_shape, num_classes, seed) -> tf.keras.Model:
        """Makes the network from images and labels to means and log-variances."""
        images = tf.keras.Input(tuple(image_shape))
        labels = tf.keras.Input((num_classes,))
        hidden = images
        for index, filters in enumerate(_FILTERS):
            hidden = tf.keras.layers.Conv2D(
                filters,
                3,
                strides=2,
                padding='same',
                activation='relu',
                kernel_initializer=glorot(seed, index),
            )(hidden)
        hidden = tf.keras.layers.Flatten()(hidden)
        hidden = tf.keras.layers.Concatenate()([hidden, labels])
        hidden = tf.keras.layers.Dense(
            _UNITS, 'relu', kernel_initializer=glorot(seed, 2)
        )(hidden)
        found = tf.keras.layers.Dense(
            2 * self.latent_size, kernel_initializer=glorot(seed, 3)
        )(hidden)
        return tf.keras.Model([images, labels], found, name='encoder')

    def _decoder(self, image_shape, num_classes, seed) -> tf.keras.Model:
        """Makes the network from latent codes and labels to logits of pixels."""
        height, width, channels = image_shape
        small = (math.ceil(height / 4), math.ceil(width / 4), _FILTERS[-1])
        codes = tf.keras.Input((self.latent_size,))
        labels = tf.keras.Input((num_classes,))
        hidden = tf.keras.layers.Concatenate()([codes, labels])
        for index, units in enumerate((_UNITS, math.prod(small)), 4):
            hidden = tf.keras.layers.Dense(
                units, 'relu', kernel_initializer=glorot(seed, index)
            )(hidden)
        hidden = tf.keras.layers.Reshape(small)(hidden)
        for index, (filters, activation) in enumerate(
            ((_FILTERS[0], 'relu'), (channels, None)), 6
        ):
            hidden = tf.keras.layers.Conv2DTranspose(
                filters,
                3,
                strides=2,
                padding='same',
                activation=activation,
                kernel_initializer=glorot(seed, index),
            )(hidden)
        cropped = hidden[:, :height, :width]
        return tf.keras.Model([codes, labels], cropped, name='decoder')

    def losses(
        self,
        parts: Mapping[str, tf.keras.Model],
        images: tf.Tensor,
        labels: tf.Tensor,
        keys: tf.Tensor,
    ) -> Sequence[tf.Tensor]:
        """Returns `reconstruction` and `divergence` (see `Architecture`)."""
        mean, log_variance = tf.split(parts['encoder']([images, labels]), 2, axis=1)
        noise = KeyedNormal(0)([mean, keys])
        codes = mean + tf.exp(log_variance / 2) * noise
        logits = parts['decoder']([codes, labels])
        of_pixels = tf.nn.sigmoid_cross_entropy_with_logits(
            labels=images, logits=logits
        )
        of_codes = tf.square(mean) + tf.exp(log_variance) - 1 - log_variance
        return (
            tf.reduce_sum(of_pixels, axis=(1, 2, 3)),
            tf.reduce_sum(of_codes, axis=1) / 2,
        )

    def generate(
        self, call: Call, image_shape: Sequence[int], labels: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        """Returns the decoder's probabilities at standard normal codes."""
        del image_shape
        shape = [tf.shape(labels)[0], self.latent_size]
        codes = tf.random.stateless_normal(shape, key)
        return tf.nn.sigmoid(call('decoder', [codes, labels]))

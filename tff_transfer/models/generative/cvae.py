"""A conditional variational autoencoder."""

import dataclasses
import math
from collections.abc import Sequence

import tensorflow as tf

from tff_transfer.models.generative.architecture import Call, Networks
from tff_transfer.models.generative.layers import Layers
from tff_transfer.models.small import check_fits
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

    def networks(
        self, image_shape: Sequence[int], num_classes: int, seed: int
    ) -> dict[str, tf.keras.Model]:
        """Makes `encoder` and `decoder` (see `Architecture`)."""
        height, width = image_shape[:2]
        least = 2 * math.ceil(height / 4) * math.ceil(width / 4) * _FILTERS[-1] * _UNITS
        check_fits(least, 'give smaller images')
        layers = Layers(seed)
        return {
            'encoder': self._encoder(layers, image_shape, num_classes),
            'decoder': self._decoder(layers, image_shape, num_classes),
        }

    def _encoder(self, layers, image_shape, num_classes) -> tf.keras.Model:
        """Makes the network from images and labels to means and log-variances."""
        images = tf.keras.Input(tuple(image_shape))
        labels = tf.keras.Input((num_classes,))
        hidden = images
        for name, filters in zip(('first', 'second'), _FILTERS, strict=True):
            conv = layers.conv(f'encoder_{name}', filters, 'relu', strides=2)
            hidden = conv(hidden)
        hidden = tf.keras.layers.Flatten()(hidden)
        hidden = tf.keras.layers.Concatenate()([hidden, labels])
        hidden = layers.dense('encoder_hidden', _UNITS, 'relu')(hidden)
        found = layers.dense('encoder_moments', 2 * self.latent_size)(hidden)
        return tf.keras.Model([images, labels], found, name='encoder')

    def _decoder(self, layers, image_shape, num_classes) -> tf.keras.Model:
        """Makes the network from latent codes and labels to logits of pixels."""
        height, width, channels = image_shape
        small = (math.ceil(height / 4), math.ceil(width / 4), _FILTERS[-1])
        codes = tf.keras.Input((self.latent_size,))
        labels = tf.keras.Input((num_classes,))
        hidden = tf.keras.layers.Concatenate()([codes, labels])
        hidden = layers.dense('decoder_hidden', _UNITS, 'relu')(hidden)
        hidden = layers.dense('decoder_small', math.prod(small), 'relu')(hidden)
        hidden = tf.keras.layers.Reshape(small)(hidden)
        hidden = layers.raised('decoder_raise', _FILTERS[0], 'relu')(hidden)
        logits = layers.raised('decoder_pixels', channels)(hidden)
        cropped = logits[:, :height, :width]
        return tf.keras.Model([codes, labels], cropped, name='decoder')

    def losses(
        self,
        networks: Networks,
        images: tf.Tensor,
        labels: tf.Tensor,
        keys: tf.Tensor,
        teachers: Networks | None = None,
    ) -> Sequence[tf.Tensor]:
        """Returns `reconstruction` and `divergence` (see `Architecture`).

        The distance from a teacher is the squared one between their decoders'
        probabilities at the same standard normal codes, in all pixels.
        """
        mean, log_variance = tf.split(networks['encoder']([images, labels]), 2, axis=1)
        noise = KeyedNormal(0)([mean, keys])
        codes = mean + tf.exp(log_variance / 2) * noise
        logits = networks['decoder']([codes, labels])
        of_pixels = tf.nn.sigmoid_cross_entropy_with_logits(
            labels=images, logits=logits
        )
        of_codes = tf.square(mean) + tf.exp(log_variance) - 1 - log_variance
        terms = (
            tf.reduce_sum(of_pixels, axis=(1, 2, 3)),
            tf.reduce_sum(of_codes, axis=1) / 2,
        )
        if teachers is None:
            return terms
        inputs = [KeyedNormal(1)([mean, keys]), labels]
        drawn, taught = (
            tf.nn.sigmoid(each['decoder'](inputs)) for each in (networks, teachers)
        )
        return *terms, tf.reduce_sum(tf.square(drawn - taught), axis=(1, 2, 3))

    def generate(
        self, call: Call, image_shape: Sequence[int], labels: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        """Returns the decoder's probabilities at standard normal codes."""
        del image_shape
        shape = [tf.shape(labels)[0], self.latent_size]
        codes = tf.random.stateless_normal(shape, key)
        return tf.nn.sigmoid(call('decoder', [codes, labels]))

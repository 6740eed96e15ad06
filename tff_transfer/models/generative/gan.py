"""The networks of a small generative adversarial network."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_transfer.errors import UserError
from tff_transfer.models.generative.layers import Layers
from tff_transfer.models.small import check_fits

LOSSES = ('nonsaturating', 'wasserstein')

# The image is halved until a side has no more pixels than this.
_SMALLEST = 8


@dataclasses.dataclass(frozen=True)
class GAN:
    """A generator and a discriminator, which may be told the class.

    Goodfellow et al. 2014, "Generative adversarial nets"; strided convolutions and
    leaky ReLUs as Radford, Metz, Chintala 2016, "Unsupervised representation learning
    with deep convolutional generative adversarial networks" (DCGAN), without BatchNorm:
    a client's batches are small and of one hand. The discriminator is told the class
    as Miyato & Koyama 2018, "cGANs with projection discriminator", do.

    The generator's parts are a `stem`, which makes a small image of latents, and
    `doublings` of it; the discriminator's are `halvings` of an image, and a `verdict`.

    Attributes:
      latent_size: How many standard normal numbers an image is made of.
      width: Filters next to the image; each halving of it has twice as many.
      conditional: Whether both networks are told the class of an image.
      loss: `nonsaturating`, the loss of Goodfellow et al.; or `wasserstein`, with a
        penalty of gradients (Gulrajani et al. 2017, "Improved training of Wasserstein
        GANs"), which Augenstein et al. 2020 take.
      smoothing: By how much the label of real images is below 1, for the former
        (Salimans et al. 2016, "Improved techniques for training GANs", section 3.4).
    """

    latent_size: int = 16
    width: int = 16
    conditional: bool = True
    loss: str = 'nonsaturating'
    smoothing: float = 0.0

    def networks(
        self, image_shape: Sequence[int], num_classes: int, seed: int
    ) -> dict[str, tf.keras.Model]:
        """Makes `generator` and `discriminator` (see `Architecture`).

        Where they are told the class they take it as the second of two inputs, float32
        [batch, classes]. The generator gives images in [0, 1], the discriminator of
        such ones logits float32 [batch, 1].

        Raises:
          UserError: The images are too small, or the weights too many for the memory.
        """
        if min(image_shape[:2]) < _SMALLEST:
            raise UserError(
                f'images of {image_shape[0]} x {image_shape[1]} pixels are too small'
                f' for --model=gan; give at least {_SMALLEST} x {_SMALLEST}'
            )
        layers, told = Layers(seed), num_classes if self.conditional else 0
        return {
            'generator': self._generator(layers, image_shape, told),
            'discriminator': self._discriminator(layers, image_shape, told),
        }

    def _generator(self, layers: Layers, image_shape, classes: int) -> tf.keras.Model:
        """Makes the generator: a dense layer, and doublings of what it gives."""
        sides = _sides(image_shape)
        latents = tf.keras.Input((self.latent_size,))
        inputs, hidden = latents, latents
        if classes:
            inputs = [latents, tf.keras.Input((classes,))]
            hidden = tf.keras.layers.Concatenate()(inputs)
        small = (*sides[-1], self.width * 2 ** (len(sides) - 2))
        weights = self.latent_size * math.prod(small)
        check_fits(weights, 'give a smaller --latent_size or smaller images')
        dense = layers.dense('stem_dense', math.prod(small), tf.nn.leaky_relu)
        hidden = tf.keras.layers.Reshape(small)(dense(hidden))
        for step in reversed(range(len(sides) - 1)):
            filters, activation = image_shape[2], 'sigmoid'
            if step:
                filters, activation = self.width * 2 ** (step - 1), tf.nn.leaky_relu
            hidden = layers.raised(f'doublings_{step}', filters, activation)(hidden)
            height, width = sides[step]
            hidden = hidden[:, :height, :width]
        return tf.keras.Model(inputs, hidden, name='generator')

    def _discriminator(
        self, layers: Layers, image_shape, classes: int
    ) -> tf.keras.Model:
        """Makes the discriminator: halvings of the image, and a dense layer."""
        images = tf.keras.Input(tuple(image_shape))
        hidden = tf.keras.layers.Rescaling(2.0, -1.0)(images)
        for step in range(len(_sides(image_shape)) - 1):
            conv = layers.conv(
                f'halvings_{step}', self.width * 2**step, tf.nn.leaky_relu, strides=2
            )
            hidden = conv(hidden)
        hidden = tf.keras.layers.Flatten()(hidden)
        logits = layers.dense('verdict_dense', 1)(hidden)
        if not classes:
            return tf.keras.Model(images, logits, name='discriminator')
        labels = tf.keras.Input((classes,))
        # At the start the class has no say.
        of_class = tf.keras.layers.Dense(
            hidden.shape[-1],
            use_bias=False,
            kernel_initializer='zeros',
            name='verdict_classes',
        )(labels)
        projected = tf.keras.layers.Dot(1)([hidden, of_class])
        both = tf.keras.layers.Add()([logits, projected])
        return tf.keras.Model([images, labels], both, name='discriminator')


def _sides(image_shape: Sequence[int]) -> list[tuple[int, int]]:
    """Returns height and width of the image, and of each halving, rounded up."""
    sides = [tuple(image_shape[:2])]
    while len(sides) == 1 or min(sides[-1]) > _SMALLEST:
        sides.append(tuple(-(-np.array(sides[-1]) // 2)))
    return [tuple(map(int, side)) for side in sides]

"""A small diffusion model, conditioned on classes."""

import dataclasses
import functools
import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_transfer.models.generative import noise_schedules
from tff_transfer.models.generative.architecture import Call, Networks
from tff_transfer.models.generative.layers import Layers
from tff_transfer.networks.keras_layers import KeyedNormal, KeyedUniform

_FILTERS, _UNITS, _WAVES = (32, 64), 64, 32


@dataclasses.dataclass(frozen=True)
class Diffusion:
    """A network that tells noise from image, and images made by it.

    Ho, Jain, Abbeel 2020, "Denoising diffusion probabilistic models", algorithm 1. What
    is predicted is not the noise e but, of an image x of which a share a of the
    variance is left, the velocity sqrt(a) e - sqrt(1 - a) x (Salimans & Ho 2022,
    "Progressive distillation for fast sampling of diffusion models", appendix D), from
    which the noise follows. The loss is its squared error, here the mean over pixels:
    that of the noise divided by a. Where hardly anything is left of an image the error
    of a predicted noise makes a much larger one in the image, and after the few steps
    that clients take nothing but noise was drawn; by velocities digits were.

    Images are drawn in few steps by Song, Meng, Ermon 2021, `noise_schedules.denoised`.
    The network is a small U-Net on blocks of 2 x 2 pixels, of which it has two scales,
    without attention or normalisation.

    Attributes:
      schedule: How noise grows, one of `noise_schedules.SCHEDULES`.
      steps: In how many steps.
      sampling_steps: How many of them are taken to draw an image.
    """

    schedule: str = 'cosine'
    steps: int = 1000
    sampling_steps: int = 20

    terms = ('velocity_error',)

    @functools.cached_property
    def remaining(self) -> np.ndarray:
        """What is left of an image's variance after each step, float32 [steps]."""
        return noise_schedules.remaining(self.schedule, self.steps)

    def networks(
        self, image_shape: Sequence[int], num_classes: int, seed: int
    ) -> dict[str, tf.keras.Model]:
        """Makes `denoiser` (see `Architecture`)."""
        height, width, channels = image_shape
        images = tf.keras.Input(tuple(image_shape))
        steps = tf.keras.Input(())
        labels = tf.keras.Input((num_classes,))
        layers = Layers(seed)

        told = layers.dense('embedding_step', _UNITS)(_waves(steps))
        told += layers.dense('embedding_label', _UNITS)(labels)
        told = _swish(told)

        def conv(name, filters, inputs, *, told=told, **more):
            found = layers.conv(f'{name}_conv', filters, **more)(inputs)
            of_told = layers.dense(f'{name}_told', filters)(told)
            return _swish(found + of_told[:, None, None])

        more = [(0, -side % 4) for side in (height, width)]
        padded = tf.keras.layers.ZeroPadding2D(more)(images)
        blocks = tf.nn.space_to_depth(padded, 2)
        wide = conv('down_wide', _FILTERS[0], blocks)
        small = conv('down_small', _FILTERS[1], wide, strides=2)
        inner = conv('middle_first', _FILTERS[1], small)
        small += layers.conv('middle_last', _FILTERS[1])(inner)
        raised = layers.raised('up_raise', _FILTERS[0])(_swish(small))
        found = conv('up_last', _FILTERS[0], tf.concat([raised, wide], axis=-1))
        # At first nothing is predicted anywhere.
        found = layers.conv('up_velocity', 4 * channels, zeros=True)(found)
        found = tf.nn.depth_to_space(found, 2)[:, :height, :width]
        return {
            'denoiser': tf.keras.Model([images, steps, labels], found, name='denoiser')
        }

    def losses(
        self,
        networks: Networks,
        images: tf.Tensor,
        labels: tf.Tensor,
        keys: tf.Tensor,
        teachers: Networks | None = None,
    ) -> Sequence[tf.Tensor]:
        """Returns the error of the predicted velocity (see `Architecture`).

        The distance from a teacher is the mean square of what they predict unlike.
        """
        velocity, *inputs = self._noised(images, keys)
        predicted = networks['denoiser']([*inputs, labels])
        error = _mean_square(predicted - velocity)
        if teachers is None:
            return (error,)
        taught = teachers['denoiser']([*inputs, labels])
        return error, _mean_square(predicted - taught)

    def _noised(self, images, keys):
        """Returns velocities, images in [-1, 1] with noise, and after which step."""
        noise = KeyedNormal(0)([images, keys])
        drawn = KeyedUniform(1)([images[:, 0, 0, 0], keys])
        place = tf.cast(drawn * self.steps, tf.int32)
        left = tf.gather(tf.constant(self.remaining), place)
        images = 2 * images - 1
        noised = noise_schedules.noised(images, noise, left)
        velocity = noise_schedules.velocity(images, noise, left)
        return velocity, noised, tf.cast(place, tf.float32)

    def generate(
        self, call: Call, image_shape: Sequence[int], labels: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        """Returns what the way back from standard normal noise comes to."""
        count = tf.shape(labels)[0]
        start = tf.random.stateless_normal([count, *image_shape], key)

        def noise_of(images, step):
            steps = tf.fill([count], tf.cast(step, tf.float32))
            velocity = call('denoiser', [images, steps, labels])
            left = tf.gather(tf.constant(self.remaining), step)
            return tf.sqrt(1 - left) * images + tf.sqrt(left) * velocity

        places = noise_schedules.spaced(self.steps, self.sampling_steps)
        images = noise_schedules.denoised(noise_of, start, self.remaining, places)
        return (images + 1) / 2


def _swish(values: tf.Tensor) -> tf.Tensor:
    # That of TensorFlow has a gradient of its own, which is lost in a traced graph.
    return values * tf.sigmoid(values)


def _waves(steps: tf.Tensor) -> tf.Tensor:
    """Returns sines and cosines of steps, float32 [batch, _WAVES].

    Vaswani et al. 2017, "Attention is all you need", section 3.5, as Ho et al. 2020
    tell a network its step.
    """
    half = _WAVES // 2
    rates = tf.constant(np.exp(-math.log(1e4) * np.arange(half) / half), tf.float32)
    angles = steps[:, None] * rates
    return tf.concat([tf.sin(angles), tf.cos(angles)], axis=-1)


def _mean_square(values: tf.Tensor) -> tf.Tensor:
    """Returns the mean of the squares of each image's values, float32 [batch]."""
    return tf.reduce_mean(tf.square(values), axis=(1, 2, 3))

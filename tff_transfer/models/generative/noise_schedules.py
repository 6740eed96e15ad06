"""How much is left of an image after so many steps of noise, and the way back."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

# Of Ho et al. 2020, section 4, for so many steps.
_LINEAR, _OF_STEPS = (1e-4, 0.02), 1000
# Of Nichol & Dhariwal 2021, section 3.2.
_OFFSET, _MOST = 0.008, 0.999


def _linear(steps: int) -> np.ndarray:
    # Of fewer steps each is larger, so that as little of the image is left.
    return np.minimum(np.linspace(*_LINEAR, steps) * _OF_STEPS / steps, _MOST)


def _cosine(steps: int) -> np.ndarray:
    times = np.arange(steps + 1) / steps
    left = np.cos((times + _OFFSET) / (1 + _OFFSET) * np.pi / 2) ** 2
    return np.minimum(1 - left[1:] / left[:-1], _MOST)


SCHEDULES = {'cosine': _cosine, 'linear': _linear}


def remaining(name: str, steps: int) -> np.ndarray:
    """Returns how much of an image's variance is left after each step of noise.

    That is the product of all 1 - beta up to the step, written alpha bar by Ho, Jain,
    Abbeel 2020, "Denoising diffusion probabilistic models", equation 4. Their betas
    grow linearly; by the cosine of Nichol & Dhariwal 2021, "Improved denoising
    diffusion probabilistic models", equation 17, less noise is added early.

    Args:
      name: One of `SCHEDULES`.
      steps: How many steps there are.

    Returns:
      float32 [steps], descending within (0, 1).
    """
    return np.cumprod(1 - SCHEDULES[name](steps)).astype(np.float32)


def spaced(steps: int, count: int) -> np.ndarray:
    """Returns `count` of the steps, evenly spaced, the last one first, int32."""
    ends = np.arange(count, 0, -1) * steps // count
    return (ends - 1).astype(np.int32)


def noised(images: tf.Tensor, noise: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
    """Returns images with noise (Ho et al. 2020, equation 4 and algorithm 1).

    Args:
      images: float32 [batch, height, width, channels] in [-1, 1].
      noise: Standard normal, of the same shape.
      left: What is left of each image's variance, float32 [batch].
    """
    left = tf.reshape(left, [-1, 1, 1, 1])
    return tf.sqrt(left) * images + tf.sqrt(1 - left) * noise


def velocity(images: tf.Tensor, noise: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
    """Returns the velocity of `noised`, of the same arguments (Salimans & Ho 2022)."""
    left = tf.reshape(left, [-1, 1, 1, 1])
    return tf.sqrt(left) * noise - tf.sqrt(1 - left) * images


def denoised(
    noise_of: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    start: tf.Tensor,
    left: np.ndarray,
    places: np.ndarray,
) -> tf.Tensor:
    """Makes images of noise without drawing any more.

    Song, Meng, Ermon 2021, "Denoising diffusion implicit models", equation 12 with
    sigma 0. The image that is predicted at a step is kept within [-1, 1], as is usual.

    Args:
      noise_of: Predicts the noise in what there is, [n, height, width, channels], at a
        step, int32 [].
      start: Standard normal noise, [n, height, width, channels].
      left: What is left of the variance after each step, [steps].
      places: The steps that are taken, descending.

    Returns:
      float32 [n, height, width, channels] in [-1, 1].
    """
    here, after = left[places], np.append(left[places[1:]], np.float32(1))

    def step(number, images):
        noise = noise_of(images, tf.gather(places, number))
        now, then = tf.gather(here, number), tf.gather(after, number)
        clean = (images - tf.sqrt(1 - now) * noise) / tf.sqrt(now)
        clean = tf.clip_by_value(clean, -1, 1)
        return number + 1, tf.sqrt(then) * clean + tf.sqrt(1 - then) * noise

    _, images = tf.while_loop(
        lambda number, _: number < len(places), step, (tf.constant(0), start)
    )
    return images

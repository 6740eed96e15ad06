"""Training images a little changed each time: moved, turned, lighter, mirrored."""

import dataclasses

import numpy as np
import tensorflow as tf

from tff_transfer import aligned

# Images of one call: what is computed in float32 takes memory for so many.
_BLOCK = 512


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How much images are changed; each change is drawn uniformly.

    Attributes:
      shift: The most that an image moves down or up, and right or left, as a share
        of its side.
      rotation: The most degrees that it turns, either way.
      brightness: The most that is added or taken away, as a share of the range from
        black to white.
      flip: Whether every second image, on average, is mirrored left to right.
    """

    shift: float = 0.0
    rotation: float = 0.0
    brightness: float = 0.0
    flip: bool = False

    def __call__(self, images: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Changes each image by its own key.

        Args:
          images: [n, height, width, channels], uint8 in [0, 255] or float32 in [0, 1].
          keys: int32 [n, 2]. An image's change is a function of its key alone.

        Returns:
          The changed images, of the same shape and dtype.
        """
        changed = aligned.empty(images.shape, images.dtype)
        for start in range(0, len(images), _BLOCK):
            block = slice(start, start + _BLOCK)
            changed[block] = self._drawn(
                tf.constant(images[block]), tf.constant(keys[block])
            )
        return changed

    @tf.function(reduce_retracing=True)
    def _drawn(self, images: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
        draws = tf.map_fn(
            lambda key: tf.random.stateless_uniform([5], key),
            keys,
            fn_output_signature=tf.TensorSpec([5]),
        )
        down, right, turn, lighter = tf.unstack(2 * draws[:, :4] - 1, axis=1)
        sides = tf.cast(tf.shape(images)[1:3], tf.float32)
        return change(
            images,
            down=self.shift * sides[0] * down,
            right=self.shift * sides[1] * right,
            degrees=self.rotation * turn,
            lighter=self.brightness * lighter,
            mirrored=tf.logical_and(self.flip, draws[:, 4] < 0.5),
        )


def change(
    images: tf.Tensor,
    *,
    down: tf.Tensor,
    right: tf.Tensor,
    degrees: tf.Tensor,
    lighter: tf.Tensor,
    mirrored: tf.Tensor,
) -> tf.Tensor:
    """Mirrors images, turns them about their centre, moves and lightens them.

    Values between pixels are interpolated bilinearly. What comes in from outside is
    the nearest pixel of the edge, since backgrounds are black in some data and white
    in others.

    Args:
      images: [n, height, width, channels], uint8 in [0, 255] or float32 in [0, 1].
      down: Pixels, float32 [n].
      right: Pixels, float32 [n].
      degrees: Counterclockwise, float32 [n].
      lighter: What is added, as a share of white, float32 [n]; values stay in range.
      mirrored: Left to right, bool [n].

    Returns:
      The changed images, of the same shape and dtype; uint8 is rounded.
    """
    white = 255.0 if images.dtype == tf.uint8 else 1.0
    shape = tf.shape(images)
    middle = tf.cast(shape[1:3] - 1, tf.float32) / 2
    angle = degrees * (np.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # From a pixel of the result (x, y) to where it comes from, first turned back.
    x, y = middle[1] + right, middle[0] + down
    a0, a1, a2 = cos, -sin, middle[1] - cos * x + sin * y
    b0, b1, b2 = sin, cos, middle[0] - sin * x - cos * y
    a0, a1 = (tf.where(mirrored, -a, a) for a in (a0, a1))
    a2 = tf.where(mirrored, 2 * middle[1] - a2, a2)
    none = tf.zeros_like(cos)
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=tf.stack([a0, a1, a2, b0, b1, b2, none, none], axis=1),
        output_shape=shape[1:3],
        fill_value=0.0,
        interpolation='BILINEAR',
        fill_mode='NEAREST',
    )
    lit = tf.clip_by_value(moved + white * lighter[:, None, None, None], 0, white)
    if images.dtype == tf.uint8:
        lit = tf.round(lit)
    return tf.ensure_shape(tf.cast(lit, images.dtype), images.shape)

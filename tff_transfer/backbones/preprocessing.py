"""The one place where raw images become what a pretrained network takes."""

import dataclasses

import tensorflow as tf

from tff_transfer.errors import UserError

# Those that take blue, green and red less their means over ImageNet. Their
# `preprocess_input` indexes in a way that no `.keras` file can hold.
_BGR_FAMILIES = ('resnet', 'vgg16', 'vgg19')
_BGR_MEANS = (103.939, 116.779, 123.68)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Size, channels and value range of a network's input images.

    Attributes:
      image_size: Height and width.
      value_range: What 0 (black) and 1 (white) become.
      channels: 3 (RGB) or 1 (grey).
      family: A module of `tf.keras.applications`, such as `'resnet50'`, whose
        `preprocess_input` is applied last; or empty. It wants a value range of
        (0, 255).
    """

    image_size: tuple[int, int]
    value_range: tuple[float, float] = (0.0, 1.0)
    channels: int = 3
    family: str = ''

    def __call__(self, images) -> tf.Tensor:
        """Prepares raw images; may be traced inside a `tf.function`.

        Sizes are met by bilinear interpolation, with antialiasing where a side
        shrinks; the aspect ratio is not kept. Grey images are repeated to RGB.

        Args:
          images: [batch, height, width, 1 or 3], uint8 in [0, 255] or floating in
            [0, 1]; a tensor or an array.

        Returns:
          float32 [batch, *image_size, channels].

        Raises:
          UserError: Another shape or dtype.
        """
        images = tf.convert_to_tensor(images)
        if images.shape.rank != 4 or images.shape[-1] not in (1, 3):
            raise UserError(
                f'images of shape {images.shape}, but a backbone takes'
                ' [batch, height, width, 1 or 3]'
            )
        if images.dtype != tf.uint8 and not images.dtype.is_floating:
            raise UserError(
                f'images of dtype {images.dtype.name}, but a backbone takes uint8 in'
                ' [0, 255] or floating ones in [0, 1]'
            )
        white = 255.0 if images.dtype == tf.uint8 else 1.0
        images = tf.cast(images, tf.float32)
        sides = tuple(images.shape[1:3])
        if sides != self.image_size:
            shrinks = any(
                side is None or side > wanted
                for side, wanted in zip(sides, self.image_size, strict=True)
            )
            images = tf.image.resize(images, self.image_size, antialias=shrinks)
        if images.shape[-1] == 3 and self.channels == 1:
            images = tf.image.rgb_to_grayscale(images)
        low, high = self.value_range
        images = images * ((high - low) / white) + low
        if images.shape[-1] == 1 and self.channels == 3:
            images = tf.image.grayscale_to_rgb(images)
        return of_family(images, self.family) if self.family else images


def of_family(images: tf.Tensor, family: str) -> tf.Tensor:
    """Returns what a family's `preprocess_input` makes of images in [0, 255].

    Args:
      images: float32 [batch, height, width, 3].
      family: A module of `tf.keras.applications`.
    """
    if family in _BGR_FAMILIES:
        return tf.reverse(images, [-1]) - _BGR_MEANS
    return getattr(tf.keras.applications, family).preprocess_input(images)

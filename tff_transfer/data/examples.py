"""Images and labels to and from serialized `tf.train.Example`s, many at once."""

import math
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer.errors import UserError

IMAGE_KEYS = ('pixels', 'image', 'images', 'x', 'features')
LABEL_KEYS = ('label', 'labels', 'y', 'target', 'class')


def serialize(x: np.ndarray, y: np.ndarray) -> list[bytes]:
    """Writes each row as a `tf.train.Example`.

    Args:
      x: Inputs [n, ...], uint8 (written as floats in [0, 1]) or float32.
      y: Labels [n].

    Returns:
      The serialized examples, with the features `pixels` (floats) and `label`.
    """
    if x.dtype == np.uint8:
        x = x.astype(np.float32) / 255
    protos = []
    for pixels, label in zip(x, y, strict=True):
        example = tf.train.Example()
        example.features.feature['pixels'].float_list.value.extend(
            pixels.ravel().tolist()
        )
        example.features.feature['label'].int64_list.value.append(int(label))
        protos.append(example.SerializeToString(deterministic=True))
    return protos


def parser(
    path: pathlib.Path, proto: bytes, shape: list[int] | None
) -> Callable[[Sequence[bytes]], tuple[np.ndarray, np.ndarray]]:
    """Makes the function from serialized examples to inputs and labels.

    Args:
      path: Where they are from, for errors.
      proto: The first of them: the names and sizes of its features hold for all.
      shape: The shape of one input; if None, that of a square image if it can be.

    Returns:
      A function from n serialized examples to inputs [n, *shape] (uint8 if they are
      images of exact 255ths, else float32 or int64) and labels int64 [n].

    Raises:
      UserError: The features are not an image and a label.
    """
    try:
        features = tf.train.Example.FromString(proto).features.feature
    except Exception as error:  # protobuf's error is another one in each version
        raise bad_example(path) from error
    image_key = next((k for k in IMAGE_KEYS if k in features), None)
    label_key = next((k for k in LABEL_KEYS if k in features), None)
    if image_key is None or label_key is None:
        raise UserError(
            f'{path}: its examples have the features {", ".join(sorted(features))};'
            f' one of {", ".join(IMAGE_KEYS)} and one of {", ".join(LABEL_KEYS)} are'
            ' needed'
        )
    kind = features[image_key].WhichOneof('kind')
    if kind not in ('float_list', 'int64_list'):
        raise UserError(
            f'{path}: the feature {image_key} is a {kind}; it must be numbers'
        )
    size = len(getattr(features[image_key], kind).value)
    shape = tuple(shape) if shape else image_shape(size)
    if math.prod(shape) != size:
        raise bad_example(path)
    dtype = tf.float32 if kind == 'float_list' else tf.int64
    spec = {
        image_key: tf.io.FixedLenFeature([size], dtype),
        label_key: tf.io.FixedLenFeature([], tf.int64),
    }

    def parse(protos: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        try:
            parsed = tf.io.parse_example(list(protos), spec)
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
            raise bad_example(path) from error
        x = parsed[image_key].numpy()
        if len(shape) > 1:
            x = as_bytes(x)
        return x.reshape(-1, *shape), parsed[label_key].numpy()

    return parse


def bad_example(path: pathlib.Path) -> UserError:
    """Returns the error for a row that holds something else."""
    return UserError(
        f'{path}: holds examples that are no tf.train.Example of one shape with an'
        ' image and an integer label; delete it and get it again'
    )


def image_shape(size: int) -> tuple[int, ...]:
    """Returns the shape of a square grey or RGB image of `size` values, or (size,)."""
    for channels in (1, 3):
        side = round((size / channels) ** 0.5)
        if side * side * channels == size:
            return (side, side, channels)
    return (size,)


def as_bytes(x: np.ndarray) -> np.ndarray:
    """Returns float32 in [0, 1] as uint8 if every value is a 255th; else unchanged."""
    if x.dtype != np.float32:
        return x
    with np.errstate(over='ignore'):
        scaled = x * np.float32(255)
    if not np.isfinite(scaled).all():
        return x
    rounded = np.rint(scaled)
    # TFF's values are single-precision results of 1 - k / 255.
    if (
        np.abs(scaled - rounded).max() > 1e-3
        or rounded.min() < 0
        or rounded.max() > 255
    ):
        return x
    return rounded.astype(np.uint8)


def as_float(x: np.ndarray) -> np.ndarray:
    """Returns uint8 as float32 in [0, 1]; floats stay."""
    return x.astype(np.float32) / 255 if x.dtype == np.uint8 else x

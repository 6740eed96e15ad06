"""From a handle to a backbone."""

import difflib
import functools
import os
import pathlib
import re
import tempfile
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_transfer.backbones import (
    applications,
    download,
    keras_models,
    saved_functions,
    saved_models,
)
from tff_transfer.backbones.backbone import Backbone, meets_images
from tff_transfer.backbones.preprocessing import Preprocessing
from tff_transfer.errors import UserError
from tff_transfer.networks import tracing

DEFAULT_IMAGE_SIZE = 96

# The size in a module's name, such as mobilenet_v2_035_96/feature_vector/5 of TF-Hub
# or 035-96-feature-vector/2 of Kaggle.
_SIZE_IN_NAME = re.compile(r'[-_](\d{2,3})[-_/]feature[-_]vector')


def load(
    handle: str | os.PathLike[str] | tf.keras.Model,
    *,
    image_size: int | tuple[int, int] | None = None,
    value_range: tuple[float, float] | None = None,
    weights: str | None = None,
    seed: int = 0,
) -> Backbone:
    """Loads a backbone.

    The image size is the one that the network is fixed to, else the argument, else
    the one in the name of a TF-Hub or Kaggle module, else 96.

    Args:
      handle: One of
        - `'embedded'`, the backbone that comes with this package;
        - a URL of TF-Hub, such as
          `https://tfhub.dev/google/tf2-preview/mobilenet_v2/feature_vector/4`, or of
          Kaggle (`https://www.kaggle.com/models/...`); what is in
          `$TFHUB_CACHE_DIR` already needs no network;
        - a network of `tf.keras.applications`, such as `'MobileNetV2'` or, of 0.35
          of its width, `'MobileNetV2_035'` (`applications.WIDTHS`); or
          `'ResNet18'` or `'ResNet18GroupNorm'`;
        - the path of a SavedModel folder, or of a `.tar`, `.tar.gz` or `.tgz` of one;
        - a `tf.keras.Model` from images to feature vectors, or the path of a
          `.keras` or `.h5` file of one. Of a `model.keras` of this package, and of a
          classifier that ends with a softmax, the features are what the last dense
          layer takes. The weights should stay as they are from then on.
      image_size: The side of the images, or height and width.
      value_range: What black and white become. By default what the backbone wants:
        the family's own `preprocess_input` for `tf.keras.applications`, (0, 255) for
        a Keras model of uint8 images, and (0, 1), TF-Hub's convention, for all others.
      weights: For networks by name only: `'random'`, the path of a weights file
        without the top layers, or the folder of a SavedModel of the same network. A
        MobileNetV2, MobileNetV3 or EfficientNet pads images of another size than a
        multiple of 32 otherwise than such a SavedModel made for any size does, so
        features differ there.
      seed: The seed of random weights.

    Returns:
      The backbone.

    Raises:
      UserError: A handle that cannot be reached, is broken, or gives no feature
        vectors; arguments that do not fit it. One line, within ten seconds where no
        server answers.
    """
    image_size, value_range = _checked(image_size, value_range)
    families = applications.families()
    if weights is not None and not (isinstance(handle, str) and handle in families):
        known = isinstance(handle, tf.keras.Model) or os.path.exists(handle)
        if not known and handle != 'embedded' and '://' not in os.fspath(handle):
            raise UserError(_unknown(os.fspath(handle), families))
        raise UserError(
            f'the backbone {_shown(handle)} brings its own weights; leave weights out'
        )
    family = ''
    if isinstance(handle, tf.keras.Model):
        name = handle.name
        network, spec, value_range = _of_keras(handle, value_range)
        handle = f'tf.keras.Model {name}'
    elif (handle := os.fspath(handle)) in families:
        size = image_size or (DEFAULT_IMAGE_SIZE, DEFAULT_IMAGE_SIZE)
        name, network = handle, applications.build(handle, size, weights, seed)
        spec = _keras_input(network)
        if value_range is None and families[handle]:
            family, value_range = families[handle], (0.0, 255.0)
    elif handle == 'embedded':
        # The folder of a large file, which only this handle needs.
        from tff_transfer.backbones import embedded

        name = handle
        network, spec = saved_models.read(handle, embedded.PATH)
        image_size = image_size or _sides(embedded.IMAGE_SIZE)
        value_range = value_range or tuple(map(float, embedded.VALUE_RANGE))
    elif re.match(r'https?://', handle):
        name = handle.split('//', 1)[1].partition('/')[2].strip('/')
        network, spec = saved_models.read(handle, download.fetch(handle))
        in_name = _SIZE_IN_NAME.search(handle)
        if image_size is None and in_name and None in spec.shape[1:3]:
            image_size = _sides(int(in_name[1]))
    else:
        path = pathlib.Path(handle)
        name = path.resolve().name
        if path.is_dir():
            network, spec = saved_models.read(handle, path)
        elif path.is_file() and name.endswith(keras_models.SUFFIXES):
            model = keras_models.read(path)
            network, spec, value_range = _of_keras(model, value_range)
        elif path.is_file() and name.endswith(('.tar', '.tar.gz', '.tgz')):
            with tempfile.TemporaryDirectory() as folder:
                unpacked = saved_models.unpack(path, folder)
                network, spec = saved_models.read(handle, unpacked)
        else:
            raise UserError(_unknown(handle, families))
    return _backbone(name, handle, network, spec, image_size, value_range, family)


def _shown(handle) -> str:
    return handle.name if isinstance(handle, tf.keras.Model) else os.fspath(handle)


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    sides = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(sides) != 2 or not all(
        isinstance(side, int | np.integer) and side > 0 for side in sides
    ):
        raise UserError(
            f'image_size is {size}, but must be a positive number of pixels, or height'
            ' and width'
        )
    return int(sides[0]), int(sides[1])


def _checked(image_size, value_range):
    """Returns the arguments in their full form, or None as given."""
    if image_size is not None:
        image_size = _sides(image_size)
    if value_range is not None:
        value_range = tuple(map(float, value_range))
        if (
            len(value_range) != 2
            or not np.all(np.isfinite(value_range))
            or not value_range[0] < value_range[1]
        ):
            raise UserError(
                f'value_range is {value_range}, but must be two numbers, the smaller'
                ' one first'
            )
    return image_size, value_range


def _unknown(handle: str, families: dict[str, str]) -> str:
    """Returns what is wrong with a handle of no kind."""
    kinds = (
        'embedded, a URL of tfhub.dev or kaggle.com/models, a SavedModel folder or'
        ' .tar.gz, a .keras or .h5 file, or a network of tf.keras.applications'
    )
    if os.path.exists(handle):
        return f'backbone {handle} is a file of an unknown kind; give {kinds}'
    family, _, width = handle.partition('_')
    if width.isdecimal() and family in applications.WIDTHS:
        widths = ', '.join(f'{family}_{each}' for each in applications.WIDTHS[family])
        return f'there is no backbone {handle}; {family} has the widths {widths}'
    alike = difflib.get_close_matches(handle, [*families, 'embedded'], 1)
    meant = f'; did you mean {alike[0]}?' if alike else ''
    return f'there is no backbone {handle}{meant}; give {kinds}'


def _keras_input(model: tf.keras.Model) -> tf.TensorSpec:
    inputs = model.inputs or []
    if len(inputs) != 1:
        raise UserError(
            f'the model {model.name} has {len(inputs)} known inputs, but a backbone has'
            ' one, images; build it on tf.keras.Input'
        )
    return tf.TensorSpec(inputs[0].shape, inputs[0].dtype)


def _of_keras(model: tf.keras.Model, value_range):
    """Returns what gives features of a model, what it takes, and the value range."""
    if _keras_input(model).dtype == tf.uint8:
        value_range = value_range or (0.0, 255.0)
    network = keras_models.extractor(model)
    return network, _keras_input(network), value_range


class _Output(tf.Module):
    """One output of a network that gives several by name."""

    def __init__(self, network, key: str):
        super().__init__()
        self.network = network
        self._key = key

    def __call__(self, images, training=False):
        return self.network(images, training=training)[self._key]


def _backbone(
    name: str, handle: str, network, spec, image_size, value_range, family: str = ''
) -> Backbone:
    """Fits the preprocessing to a network that takes `spec`, and checks its output."""
    *fixed, channels = spec.shape[1:] if spec.shape.rank == 4 else [None, None, 0]
    channels = 3 if channels is None else channels
    if channels not in (1, 3) or spec.dtype != tf.float32:
        raise UserError(
            f'backbone {name} takes {saved_models.described(spec)}, not float32 images'
            ' [batch, height, width, 1 or 3]; give a feature extractor for images'
        )
    wanted = image_size or (DEFAULT_IMAGE_SIZE, DEFAULT_IMAGE_SIZE)
    sides = tuple(known or side for known, side in zip(fixed, wanted, strict=True))
    if image_size is not None and sides != image_size:
        raise UserError(
            f'backbone {name} takes images of {sides[0]} x {sides[1]} pixels alone, not'
            f' {image_size[0]} x {image_size[1]}; leave the image size out'
        )
    preprocess = Preprocessing(sides, value_range or (0.0, 1.0), channels, family)
    if isinstance(network, saved_functions.SavedFunctions):
        trace = functools.partial(network.trace, _taken(preprocess))
        with meets_images(name, preprocess):
            functional = trace(training=False)
        return Backbone(name, handle, preprocess, trace, functional, None)
    traced = _trace(name, network, preprocess)
    if isinstance(traced.structured_outputs, dict):
        network = _Output(network, _vector_key(name, traced.structured_outputs))
        traced = _trace(name, network, preprocess)
    features = traced.structured_outputs
    if not _is_vector(features):
        raise UserError(
            f'backbone {name} gives {saved_models.described(features)}, not feature'
            ' vectors (float32 [batch, size]); give a module for feature vectors, or'
            ' end the model with global pooling'
        )
    return Backbone(
        name,
        handle,
        preprocess,
        trace=functools.partial(tracing.trace, network, _taken(preprocess)),
        functional=tracing.of_traced(traced, network, _taken(preprocess)),
        keras_model=network if isinstance(network, tf.keras.Model) else None,
    )


def _trace(name: str, network, preprocess: Preprocessing):
    with meets_images(name, preprocess):
        return tracing.concrete_function(network, _taken(preprocess), training=False)


def _taken(preprocess: Preprocessing) -> tf.TensorSpec:
    return tf.TensorSpec([None, *preprocess.image_size, preprocess.channels])


def _is_vector(output) -> bool:
    return (
        isinstance(output, tf.Tensor)
        and output.dtype == tf.float32
        and output.shape.rank == 2
        and output.shape[1] is not None
    )


def _vector_key(name: str, outputs: dict[str, tf.Tensor]) -> str:
    """Returns which output holds the features: TF-Hub's `default`, or the only one."""
    vectors = [key for key in sorted(outputs) if _is_vector(outputs[key])]
    if 'default' in vectors:
        return 'default'
    if len(vectors) != 1:
        raise UserError(
            f'backbone {name} gives {saved_models.described(outputs)}, of which'
            f' {len(vectors)} are feature vectors (float32 [batch, size]); give a'
            ' module with one'
        )
    return vectors[0]

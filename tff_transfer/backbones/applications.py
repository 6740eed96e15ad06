"""Networks by name: those of `tf.keras.applications`, without heads, and ResNet-18.

MobileNets come in several widths, in hundredths as TF-Hub names them:
`MobileNetV2_035` is `tf.keras.applications.MobileNetV2` with `alpha=0.35`.
"""

import collections
import os
import re
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tff_transfer import randomness
from tff_transfer.backbones import resnet, saved_models
from tff_transfer.errors import UserError, one_line

# Those for which ImageNet weights were published, by Keras and on TF-Hub.
WIDTHS = {
    'MobileNet': ('025', '050', '075', '100'),
    'MobileNetV2': ('035', '050', '075', '100', '130', '140'),
}

# A layer, the number that Keras may have given it, and the rest.
_NAME = re.compile('([^/]*?)(?:_([0-9]+))?(/.*)?')


def families() -> dict[str, str]:
    """Returns the networks' names, each with the module that has its preprocessing.

    Those of this package have none: they take images in [0, 1].
    """
    public = tf.keras.applications
    of_keras = {
        name: getattr(public, name).__module__.rpartition('.')[2]
        for name in sorted(dir(public))
        if name[0].isupper() and callable(getattr(public, name))
    }
    of_widths = {
        f'{name}_{width}': of_keras[name]
        for name, widths in WIDTHS.items()
        for width in widths
    }
    return {**of_keras, **of_widths, **dict.fromkeys(resnet.NORMALISATIONS, '')}


def architecture(
    name: str, image_size: tuple[int | None, int | None]
) -> tf.keras.Model:
    """Builds a network with Keras's own first weights.

    Args:
      name: One of `families()`.
      image_size: Height and width, None for any.

    Raises:
      UserError: Images that are too small.
    """
    try:
        if name in resnet.NORMALISATIONS:
            return resnet.build(image_size, resnet.NORMALISATIONS[name])
        family, _, width = name.partition('_')
        return getattr(tf.keras.applications, family)(
            include_top=False,
            weights=None,
            input_shape=(*image_size, 3),
            pooling='avg',
            **({'alpha': int(width) / 100} if width else {}),
        )
    except ValueError as error:
        raise UserError(
            f'backbone {name} cannot be built for images of {image_size}:'
            f' {one_line(error)}'
        ) from error


def build(
    name: str, image_size: tuple[int, int], weights: str | None, seed: int
) -> tf.keras.Model:
    """Builds a network that ends with the global average of its last activations.

    Args:
      name: One of `families()`.
      image_size: Height and width.
      weights: `'random'`, the path of a weights file without the top layers, or the
        folder of a SavedModel whose variables have the same names, such as TF-Hub's
        modules.
      seed: The seed of random weights.

    Raises:
      UserError: No weights named, a file that is absent or does not fit, or images
        that are too small.
    """
    if weights is None:
        raise UserError(
            f'backbone {name} needs weights: random, or the path of a weights file'
            " without the top layers, as the network's save_weights writes; give it"
            ' as weights'
        )
    if weights != 'random' and not os.path.exists(weights):
        raise UserError(
            f'backbone {name}: there is no weights file {weights}; give random or the'
            ' path of a file'
        )
    network = architecture(name, image_size)
    if weights == 'random':
        _draw_weights(network, seed)
        return network
    if os.path.isdir(weights):
        values = saved_models.read_variables(weights, weights)
        try:
            copy_weights(values, network)
        except ValueError as error:
            raise UserError(
                f'backbone {name}: the SavedModel {weights} is of another network:'
                f' {error} there'
            ) from error
        return network
    try:
        network.load_weights(weights)
    except Exception as error:  # HDF5, TensorFlow and Keras each raise their own.
        raise UserError(
            f'backbone {name}: the weights file {weights} does not fit'
            f' ({one_line(error)}); give the weights without the top'
            ' layers'
        ) from error
    return network


def copy_weights(values: Mapping[str, np.ndarray], network: tf.keras.Model) -> None:
    """Gives a network the values of variables by their names.

    Raises:
      ValueError: A variable is absent or of another shape.
    """
    found = _by_order(values)
    own = {weight.name: weight for weight in network.weights}
    for place, weight in _by_order(own).items():
        like = found.get(place)
        if like is None or like.shape != weight.shape:
            there = f'of shape {like.shape}' if like is not None else 'absent'
            raise ValueError(f'{weight.name}, of shape {weight.shape}, is {there}')
        weight.assign(like)


def _by_order(by_name: Mapping[str, object]) -> dict[tuple, object]:
    """Returns the same, in names the ranks of layers' numbers instead of the numbers.

    Keras numbers layers that have no name of their own through the whole process:
    `conv2d_94/kernel` may be that of the first layer of the second InceptionV3.
    """
    split = [(_NAME.fullmatch(name).groups(), each) for name, each in by_name.items()]
    numbers = collections.defaultdict(set)
    for (layer, number, _), _ in split:
        numbers[layer].add(int(number or -1))
    ranks = {layer: sorted(found) for layer, found in numbers.items()}
    return {
        (layer, ranks[layer].index(int(number or -1)), rest): each
        for (layer, number, rest), each in split
    }


def _draw_weights(network: tf.keras.Model, seed: int) -> None:
    """Draws each kernel anew, as a function of the seed alone.

    Normal with variance 2 / fan-in (He et al. 2015, "Delving deep into rectifiers").
    Keras's own draws depend on what the process drew before.
    """
    for number, weight in enumerate(network.trainable_weights):
        if weight.shape.rank < 2:
            continue
        depthwise = 'depthwise' in weight.name
        fan_in = int(np.prod(weight.shape[: 2 if depthwise else -1]))
        draw = randomness.generator(seed, 'backbone', number)
        values = draw.normal(scale=np.sqrt(2 / fan_in), size=weight.shape)
        weight.assign(values.astype(np.float32))

"""Networks by name: those of `tf.keras.applications`, without heads, and ResNet-18.

MobileNets come in several widths, in hundredths as TF-Hub names them:
`MobileNetV2_035` is `tf.keras.applications.MobileNetV2` with `alpha=0.35`.
"""

import os

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
    try:
        if name in resnet.NORMALISATIONS:
            network = resnet.build(image_size, resnet.NORMALISATIONS[name])
        else:
            family, _, width = name.partition('_')
            network = getattr(tf.keras.applications, family)(
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
    if weights == 'random':
        _draw_weights(network, seed)
        return network
    if os.path.isdir(weights):
        _copy_weights(network, name, weights)
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


def _copy_weights(network: tf.keras.Model, name: str, folder: str) -> None:
    """Gives a network the weights of a SavedModel's variables of the same names."""
    module, _ = saved_models.read(folder, folder)
    found = {variable.name: variable for variable in module.variables}
    for weight in network.weights:
        like = found.get(weight.name)
        if like is None or like.shape != weight.shape:
            there = f'of shape {like.shape}' if like is not None else 'absent'
            raise UserError(
                f'backbone {name}: the SavedModel {folder} is of another network:'
                f' {weight.name}, of shape {weight.shape}, is {there} there'
            )
        weight.assign(like)


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

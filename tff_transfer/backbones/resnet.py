"""ResNet-18, which `tf.keras.applications` does not have."""

import tensorflow as tf

from tff_transfer.backbones import group_norm

NORMALISATIONS = {'ResNet18': 'batch', 'ResNet18GroupNorm': 'group'}


def build(image_size: tuple[int, int], normalisation: str) -> tf.keras.Model:
    """Builds ResNet-18 (He et al. 2016, "Deep residual learning", table 1).

    It ends with the global average of the last activations: 512 features. As in the
    paper, shortcuts between blocks of other shapes are 1x1 convolutions.

    Args:
      image_size: Height and width.
      normalisation: `'batch'` or `'group'` (groups of 16 channels).

    Returns:
      A network from float32 [batch, *image_size, 3] to [batch, 512].
    """
    images = tf.keras.Input((*image_size, 3))
    x = _convolution(images, 64, 7, 2, 'stem', normalisation)
    x = tf.keras.layers.ReLU()(x)
    x = tf.keras.layers.MaxPool2D(3, 2, 'same')(x)
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for block in (1, 2):
            stride = 2 if stage > 1 and block == 1 else 1
            name = f'stage{stage}_block{block}'
            y = _convolution(x, filters, 3, stride, f'{name}_1', normalisation)
            y = tf.keras.layers.ReLU()(y)
            y = _convolution(y, filters, 3, 1, f'{name}_2', normalisation)
            if stride > 1:
                x = _convolution(x, filters, 1, stride, f'{name}_0', normalisation)
            x = tf.keras.layers.ReLU(name=f'{name}_out')(tf.keras.layers.Add()([x, y]))
    features = tf.keras.layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(images, features, name=f'resnet18_{normalisation}_norm')


def _convolution(x, filters, size, stride, name, normalisation):
    """Adds a convolution without bias, and its normalisation."""
    x = tf.keras.layers.Conv2D(
        filters,
        size,
        stride,
        padding='same',
        use_bias=False,
        kernel_initializer='he_normal',
        name=f'{name}_conv',
    )(x)
    if normalisation == 'batch':
        return tf.keras.layers.BatchNormalization(
            momentum=0.9, epsilon=1e-5, name=f'{name}_bn'
        )(x)
    return tf.keras.layers.GroupNormalization(
        group_norm.groups(filters), epsilon=1e-5, name=f'{name}_gn'
    )(x)

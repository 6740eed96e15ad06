"""Training a network from nothing on the characters of synthetic writers."""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import files, randomness
from tff_transfer.backbones import applications, preprocessing
from tff_transfer.data import strokes, synthetic_writers

#: What the embedded backbone is.
NETWORK = 'MobileNetV2_035'
# Digits are drawn three times as often as letters: the commonest use.
LABELS_OF_WRITER = np.concatenate([np.tile(np.arange(10), 3), np.arange(10, 62)])


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the result of a pretraining.

    Attributes:
      seed: Of the writers, the first weights and the augmentation.
      examples: How many pictures are seen in the first cycle of the learning rate,
        each once.
      cycles: How many cycles there are, each twice as long as the one before.
      image_size: Pixels of a side that the network sees.
      batch_size: Pictures of a step.
      learning_rate: The largest of the first cycle, for Adam; see `WarmRestarts`.
      label_smoothing: The share of the target spread over all characters.
      network: One of `networks()`.
    """

    seed: int = 0
    examples: int = 270_000
    cycles: int = 2
    image_size: int = 64
    batch_size: int = 64
    learning_rate: float = 3e-3
    label_smoothing: float = 0.0
    network: str = NETWORK

    @property
    def cycle_steps(self) -> tuple[int, ...]:
        """The number of steps of each cycle."""
        first = self.examples // self.batch_size
        return tuple(first * 2**cycle for cycle in range(self.cycles))

    @property
    def steps(self) -> int:
        """The number of steps."""
        return sum(self.cycle_steps)


class WarmRestarts(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Cycles of a linear start and a cosine to 0, as in Loshchilov & Hutter (2017).

    A network is ready for use at the end of each cycle. The largest rate of a cycle
    is `DECAY` times that of the one before, and the start takes 5 % of it.
    """

    DECAY = 0.7

    def __init__(self, learning_rate: float, cycle_steps: Sequence[int]):
        """Takes the largest rate of the first cycle and the steps of each."""
        super().__init__()
        self.learning_rate = learning_rate
        self.ends = np.cumsum(cycle_steps)
        self.lengths = np.array(cycle_steps)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the learning rate of a step, counted from 0."""
        cycle = tf.searchsorted(self.ends, [tf.cast(step, tf.int64)], 'right')[0]
        cycle = tf.minimum(cycle, len(self.ends) - 1)
        length = tf.gather(self.lengths, cycle)
        start = tf.gather(self.ends, cycle) - length
        warm = tf.maximum(length // 20, 1)
        done, warm, length = (
            tf.cast(steps, tf.float32)
            for steps in (tf.cast(step, tf.int64) - start, warm, length)
        )
        part = tf.minimum((done - warm) / (length - warm), 1)
        cosine = 0.5 * (1 + tf.cos(np.pi * tf.maximum(part, 0)))
        peak = self.learning_rate * self.DECAY ** tf.cast(cycle, tf.float32)
        return peak * tf.minimum(cosine, done / warm)


def networks() -> list[str]:
    """Returns the names of networks whose weights serve every image size.

    A NASNet has other layers for other sizes.
    """
    return [name for name in applications.families() if not name.startswith('NASNet')]


def build_network(name: str = NETWORK, image_size: int | None = None) -> tf.keras.Model:
    """Returns a network by name, of fresh weights, for any image size if none is given.

    It maps what `to_network` gives to features [n, d].
    """
    network = applications.architecture(name, (image_size, image_size))
    for layer in network.layers:
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            # Keras's 0.999 would still remember the first weights at the end.
            layer.momentum = min(layer.momentum, 0.99)
    return network


def to_network(name: str, x: tf.Tensor) -> tf.Tensor:
    """Returns what a network by name takes for images [n, h, w, 3] in [0, 1]."""
    family = applications.families()[name]
    return preprocessing.of_family(255 * x, family) if family else x


def writers_examples(
    seed: int, first: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws writers `first` to `first + count`, shuffled together.

    Returns:
      Pictures uint8 [n, 28, 28, 1] and labels int64 [n], 82 of each writer.
    """
    x = [
        synthetic_writers.draw_writer(seed, writer, LABELS_OF_WRITER)
        for writer in range(first, first + count)
    ]
    order = randomness.generator(seed, 'pretraining order', first).permutation(
        count * len(LABELS_OF_WRITER)
    )
    return np.concatenate(x)[order], np.tile(LABELS_OF_WRITER, count)[order]


def to_inputs(x: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes uint8 pictures [n, h, w, 1] to float [n, size, size, 3] in [0, 1]."""
    x = tf.image.resize(tf.cast(x, tf.float32) / 255, (size, size))
    return tf.repeat(x, 3, axis=-1)


def augment(x: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
    """Moves, zooms, fades and inverts pictures, each by its own draw.

    Args:
      x: uint8 [n, h, w, 1], ink 255 on 0.
      size: Pixels of a side of the result.
      seed: int32 [2], for stateless draws.

    Returns:
      Float [n, size, size, 3] in [0, 1], half of them dark ink on white.
    """
    n = tf.shape(x)[0]
    draw = tf.random.stateless_uniform((7, n, 1), seed)
    side = 0.8 + 0.45 * draw[0]  # of the window, so ink is 0.8 to 1.25 times as large
    stretch = 0.9 + 0.2 * draw[1]
    height, width = side * stretch, side / stretch
    top = 0.5 - height / 2 + (draw[2] - 0.5) * 0.2
    left = 0.5 - width / 2 + (draw[3] - 0.5) * 0.2
    boxes = tf.concat([top, left, top + height, left + width], 1)
    x = tf.image.crop_and_resize(
        tf.cast(x, tf.float32) / 255, boxes, tf.range(n), (size, size)
    )
    contrast, brightness, polarity = tf.unstack(draw[4:, ..., None, None])
    x = x * (0.5 + 0.5 * tf.minimum(contrast * 1.5, 1))
    x = x + (1 - tf.reduce_max(x, (1, 2, 3), keepdims=True)) * brightness * 0.5
    x = tf.where(polarity < 0.5, 1 - x, x)
    return tf.repeat(x, 3, axis=-1)


class Pretraining(tf.Module):
    """A network with its head and optimizer, and the step that trains them."""

    def __init__(self, settings: Settings):
        super().__init__()
        tf.keras.utils.set_random_seed(settings.seed)
        self.settings = settings
        self.network = build_network(settings.network, settings.image_size)
        self.head = tf.keras.layers.Dense(len(strokes.CHARACTERS))
        self.head.build(self.network.output_shape)
        schedule = WarmRestarts(settings.learning_rate, settings.cycle_steps)
        self.optimizer = tf.keras.optimizers.Adam(schedule, epsilon=1e-5)
        self.optimizer.build(self.trained)

    @property
    def trained(self) -> list[tf.Variable]:
        """The weights that are trained."""
        return self.network.trainable_variables + self.head.trainable_variables

    def logits(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        """Returns scores [n, 62] of images [n, h, w, 3] in [0, 1]."""
        x = to_network(self.settings.network, x)
        return self.head(self.network(x, training=training))

    @tf.function(reduce_retracing=True)
    def step(self, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Trains on one batch of pictures; returns its loss and accuracy."""
        number = tf.cast(self.optimizer.iterations, tf.int32)
        seed = tf.stack([self.settings.seed, number])
        images = augment(x, self.settings.image_size, seed)
        target = tf.one_hot(y, len(strokes.CHARACTERS))
        with tf.GradientTape() as tape:
            logits = self.logits(images, training=True)
            loss = tf.reduce_mean(
                tf.keras.losses.categorical_crossentropy(
                    target,
                    logits,
                    from_logits=True,
                    label_smoothing=self.settings.label_smoothing,
                )
            )
        gradients = tape.gradient(loss, self.trained)
        self.optimizer.apply_gradients(zip(gradients, self.trained, strict=True))
        right = tf.argmax(logits, 1) == y
        return loss, tf.reduce_mean(tf.cast(right, tf.float32))

    @tf.function(reduce_retracing=True)
    def predict(self, x: tf.Tensor, invert: bool = False) -> tf.Tensor:
        """Returns scores [n, 62] of uint8 pictures [n, h, w, 1], ink 255 on 0."""
        images = to_inputs(x, self.settings.image_size)
        return self.logits(1 - images if invert else images, training=False)


def export(network: tf.keras.Model, name: str, path: str | pathlib.Path) -> None:
    """Writes a network as a SavedModel in TF-Hub's feature-vector form.

    What is loaded from it is callable: `loaded(images, training=False)` maps float
    images [n, h, w, 3] in [0, 1], of any size that the network can take, to features
    [n, d]. Where Keras's padding hangs on the size (`imagenet_utils.correct_pad`), it
    is that of multiples of 32, so other sizes are padded otherwise than by the network
    that is built for them.
    With `variables`, `trainable_variables` and `regularization_losses` it is what
    `hub.KerasLayer` takes, also with `trainable=True`.

    Args:
      network: As of `build_network`, for any image size.
      name: The network's name.
      path: The folder to write, whole or not at all.
    """
    any_size = build_network(name)
    values = {weight.name: weight.numpy() for weight in network.weights}
    applications.copy_weights(values, any_size)

    @tf.function
    def features(inputs, training=False):
        return any_size(to_network(name, inputs), training=training)

    images = tf.TensorSpec((None, None, None, 3), tf.float32, name='inputs')
    serving = features.get_concrete_function(images, training=False)
    features.get_concrete_function(images, training=True)
    module = tf.train.Checkpoint(
        variables=any_size.variables,
        trainable_variables=any_size.trainable_variables,
        regularization_losses=[],
    )
    module.__call__ = features
    options = tf.saved_model.SaveOptions(save_debug_info=False)
    with files.replacing(path) as new:
        tf.saved_model.save(module, str(new), {'serving_default': serving}, options)

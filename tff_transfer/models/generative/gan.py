"""Generative adversarial networks: a small generator and a discriminator in one model.

Goodfellow et al. 2014, "Generative adversarial nets"; strided convolutions and leaky
ReLUs as Radford, Metz, Chintala 2016, "Unsupervised representation learning with deep
convolutional generative adversarial networks" (DCGAN), without BatchNorm: a client's
batches are small and of one hand. Conditional on classes by Miyato & Koyama 2018,
"cGANs with projection discriminator".

Both networks' weights are trained weights of one model. Of a batch it gives the terms
of two losses, of which each network's moves that network alone: the gradient of their
sum is the generator's of its loss beside the discriminator's of its own, at the same
weights. So a step against that gradient is the simultaneous step of Rasouli, Sun,
Rajagopal 2020, "FedGAN: Federated generative adversarial networks for distributed
data", algorithm 1.
"""

import collections
import dataclasses
import hashlib
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tff_transfer.errors import UserError
from tff_transfer.models.generative import tasks
from tff_transfer.models.model import Model, functional_model
from tff_transfer.models.small import glorot
from tff_transfer.networks import tracing
from tff_transfer.networks.functional import FunctionalNetwork

LOSSES = ('nonsaturating', 'wasserstein')
TERMS = ('discriminator_loss', 'generator_loss')

# The image is halved until a side has no more pixels than this.
_SMALLEST = 8
_SLOPE = 0.2  # Of leaky ReLUs, as in DCGAN.
_PENALTY = 10.0  # Of gradients of the Wasserstein critic, as in its paper.
# The discriminator's layers are numbered from here.
_OTHERS = 100
# What is drawn by one key.
_LATENTS, _SHARES, _LABELS = 1, 2, 3


def gan(
    image_shape: Sequence[int],
    num_classes: int,
    *,
    latent_size: int = 16,
    width: int = 16,
    conditional: bool = True,
    loss: str = 'nonsaturating',
    smoothing: float = 0.0,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float32,
) -> Model:
    """Makes a generator and a discriminator.

    Args:
      image_shape: Height, width and channels of the images.
      num_classes: Classes.
      latent_size: How many standard normal numbers an image is made of.
      width: Filters next to the image; each halving of it has twice as many.
      conditional: Whether both networks are told the class of an image.
      loss: `nonsaturating`, the loss of Goodfellow et al.; or `wasserstein`, with a
        penalty of gradients (Gulrajani et al. 2017, "Improved training of Wasserstein
        GANs"), which Augenstein et al. 2020 take.
      smoothing: By how much the label of real images is below 1, for the former
        (Salimans et al. 2016, "Improved techniques for training GANs", section 3.4).
      seed: The seed of the initial weights (Glorot uniform; biases are zero).
      dtype: The images' dtype; uint8 in [0, 255] is scaled to [0, 1].

    Returns:
      The model, whose parts are `generator` and `discriminator`, in this order. Its
      `x` are images as `inputs`, with `key` and, where it is conditional, `label`.

    Raises:
      UserError: The images are too small.
    """
    if min(image_shape[:2]) < _SMALLEST:
        raise UserError(
            f'images of {image_shape[0]} x {image_shape[1]} pixels are too small for'
            f' --model=gan; give at least {_SMALLEST} x {_SMALLEST}'
        )
    told = num_classes if conditional else 0
    networks = (
        _generator(image_shape, told, latent_size, width, seed),
        _discriminator(image_shape, told, width, seed),
    )
    made, told_apart = (
        tracing.trace(network, _specs(network), training=True) for network in networks
    )
    players = _Players(made, told_apart, latent_size, told, loss, smoothing)
    inputs = tf.TensorSpec([None, *image_shape], tf.as_dtype(dtype))
    x = collections.OrderedDict(inputs=inputs, key=tf.TensorSpec([None, 2], tf.int32))
    if conditional:
        x['label'] = tf.TensorSpec([None], tf.int32)
    terms, generate, generator_loss = (
        tf.function(function, autograph=False)
        for function in (players.terms, players.generate, players.generator_loss)
    )
    task = tasks.of_terms(TERMS)
    initial = [w.value for network in (made, told_apart) for w in network.weights]
    of_both = (made.frozen_fingerprint, told_apart.frozen_fingerprint, loss, smoothing)
    count, both = len(made.weights), range(len(initial))
    return Model(
        functional_model(initial, terms, x, task=task),
        _joined(*networks),
        takes_keys=True,
        fingerprint=hashlib.sha256(' '.join(map(str, of_both)).encode()).hexdigest(),
        task=task,
        parts={
            'generator': frozenset(both[:count]),
            'discriminator': frozenset(both[count:]),
        },
        takes_labels=conditional,
        generate=generate,
        generator_loss=generator_loss,
    )


@dataclasses.dataclass(frozen=True)
class _Players:
    """Both networks as functions of all trained weights, the generator's first.

    Attributes:
      generator: Makes images float32 [n, height, width, channels] in [0, 1] of latents
        float32 [n, size] and, where classes are told, these as float32 [n, classes].
      discriminator: Makes logits float32 [n, 1] of such images and, likewise, classes.
      latent_size: How many latents an image has.
      classes: How many classes are told, or 0.
      loss: One of `LOSSES`.
      smoothing: By how much the label of real images is below 1.
    """

    generator: FunctionalNetwork
    discriminator: FunctionalNetwork
    latent_size: int
    classes: int
    loss: str
    smoothing: float

    def terms(self, model_weights, x, training):
        """Returns the losses of each example, float32 [batch, 2]: the terms of `TERMS`.

        They are of real images and of as many generated ones. What is drawn hangs on
        the batch's first key.
        """
        del training  # Nothing differs.
        (weights, _), images = model_weights, _in_unit_range(x['inputs'])
        key, labels = tf.reduce_sum(x['key'][:1], axis=0), x.get('label')
        made = self._made(weights, tf.shape(images)[0], labels, key)
        apart = tf.stop_gradient(made)
        real = self._logits(weights, images, labels)
        fake = self._logits(weights, apart, labels)
        # The same number once more, by which the generator alone moves.
        fooled = self._logits(tuple(map(tf.stop_gradient, weights)), made, labels)
        if self.loss == 'wasserstein':
            penalty = self._penalty(weights, images, apart, labels, key)
            of_discriminator = fake - real + _PENALTY * penalty
        else:
            # Cross-entropy, for real images against 1 - smoothing.
            of_real = tf.nn.softplus(-real) + self.smoothing * real
            of_discriminator = of_real + tf.nn.softplus(fake)
        return tf.stack([of_discriminator, self._of_fooled(fooled)], axis=1)

    def generator_loss(self, weights, count: int, key):
        """Returns the generator's mean loss on so many images, float32 [].

        Their classes, where they are told, are drawn too, each as often.

        Args:
          weights: All weights.
          count: How many.
          key: What is drawn hangs on it, int32 [2].
        """
        labels = None
        if self.classes:
            labels = tf.random.stateless_uniform(
                [count], _salted(key, _LABELS), 0, self.classes, tf.int32
            )
        made = self._made(weights, count, labels, key)
        return tf.reduce_mean(self._of_fooled(self._logits(weights, made, labels)))

    def _of_fooled(self, logits):
        return -logits if self.loss == 'wasserstein' else tf.nn.softplus(-logits)

    def generate(self, weights, labels, key):
        """Returns images float32 [n, height, width, channels] in [0, 1].

        Args:
          weights: All weights.
          labels: Their classes, int32 [n]; where classes are not told only their
            number counts.
          key: What is drawn hangs on it, int32 [2].
        """
        return self._made(weights, tf.shape(labels)[0], labels, key)

    def _made(self, weights, count, labels, key):
        latents = tf.random.stateless_normal(
            [count, self.latent_size], _salted(key, _LATENTS)
        )
        own = weights[: len(self.generator.weights)]
        return self.generator.inline(own, self._with_classes(latents, labels))

    def _logits(self, weights, images, labels):
        own = weights[len(self.generator.weights) :]
        taken = self._with_classes(images, labels)
        return self.discriminator.inline(own, taken)[:, 0]

    def _with_classes(self, first, labels):
        return (first, tf.one_hot(labels, self.classes)) if self.classes else first

    def _penalty(self, weights, images, made, labels, key):
        """Returns the square of how far gradients between both are from norm 1, [n]."""
        shares = tf.random.stateless_uniform(
            [tf.shape(images)[0], 1, 1, 1], _salted(key, _SHARES)
        )
        between = shares * images + (1 - shares) * made
        # Not a tape, which does not see operations that are imported.
        (slope,) = tf.gradients(self._logits(weights, between, labels), between)
        squares = tf.reduce_sum(tf.square(slope), axis=[1, 2, 3])
        return tf.square(tf.sqrt(squares + 1e-12) - 1)


def _generator(image_shape, classes, latent_size, width, seed) -> tf.keras.Model:
    """Makes the generator: a dense layer, and doublings of what it gives."""
    layers, sides = tf.keras.layers, _sides(image_shape)
    latents = tf.keras.Input((latent_size,), name='latents')
    taken, hidden = latents, latents
    if classes:
        label = tf.keras.Input((classes,), name='label')
        taken, hidden = [latents, label], layers.Concatenate()([latents, label])
    filters = [image_shape[2], *(width * 2**i for i in range(len(sides) - 1))]
    first = (*sides[-1], filters[-1])
    hidden = layers.Dense(math.prod(first), kernel_initializer=glorot(seed, 0))(hidden)
    hidden = layers.LeakyReLU(_SLOPE)(layers.Reshape(first)(hidden))
    for step in reversed(range(len(sides) - 1)):
        hidden = layers.Conv2DTranspose(
            filters[step],
            4,
            2,
            'same',
            kernel_initializer=glorot(seed, step + 1),
        )(hidden)
        more = [
            (0, 2 * b - s) for b, s in zip(sides[step + 1], sides[step], strict=True)
        ]
        if np.any(more):
            hidden = layers.Cropping2D(more)(hidden)
        if step:
            hidden = layers.LeakyReLU(_SLOPE)(hidden)
    images = layers.Activation('sigmoid')(hidden)
    return tf.keras.Model(taken, images, name='generator')


def _discriminator(image_shape, classes, width, seed) -> tf.keras.Model:
    """Makes the discriminator: halvings of the image, and a dense layer."""
    layers = tf.keras.layers
    images = tf.keras.Input(tuple(image_shape), name='images')
    hidden = layers.Rescaling(2.0, -1.0)(images)
    for step in range(len(_sides(image_shape)) - 1):
        hidden = layers.Conv2D(
            width * 2**step,
            4,
            2,
            'same',
            kernel_initializer=glorot(seed, _OTHERS + step),
        )(hidden)
        hidden = layers.LeakyReLU(_SLOPE)(hidden)
    hidden = layers.Flatten()(hidden)
    logits = layers.Dense(1, kernel_initializer=glorot(seed, _OTHERS - 1))
    if not classes:
        return tf.keras.Model(images, logits(hidden), name='discriminator')
    label = tf.keras.Input((classes,), name='label')
    embedding = layers.Dense(
        hidden.shape[-1],
        use_bias=False,
        kernel_initializer=glorot(seed, _OTHERS - 2),
    )(label)
    projected = layers.Dot(1)([hidden, embedding])
    both = layers.Add()([logits(hidden), projected])
    return tf.keras.Model([images, label], both, name='discriminator')


def _joined(generator: tf.keras.Model, discriminator: tf.keras.Model) -> tf.keras.Model:
    """Makes the discriminator on the generator, a network of both's weights."""
    taken = generator.input
    images = generator(taken)
    judged = [images, taken[1]] if isinstance(taken, list) else images
    return tf.keras.Model(taken, discriminator(judged), name='gan')


def _sides(image_shape: Sequence[int]) -> list[tuple[int, int]]:
    """Returns height and width of the image, and of each halving, rounded up."""
    sides = [tuple(image_shape[:2])]
    while len(sides) == 1 or min(sides[-1]) > _SMALLEST:
        sides.append(tuple(-(-side // 2) for side in sides[-1]))
    return sides


def _specs(network: tf.keras.Model):
    return tf.nest.map_structure(
        lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), network.input
    )


def _in_unit_range(images):
    if images.dtype == tf.uint8:
        return tf.cast(images, tf.float32) / 255
    return images


def _salted(key, salt: int):
    return tf.add(key, [0, salt])

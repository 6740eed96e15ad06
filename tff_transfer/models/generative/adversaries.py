"""From a generator and a discriminator to one model that is trained.

Both networks' weights are the trained weights of the model, the generator's first. Of a
batch it gives the terms of two losses, of which each network's moves that network
alone: the gradient of their sum is the generator's of its loss beside the
discriminator's of its own, at the same weights. So a step against that gradient is the
simultaneous step of Rasouli, Sun, Rajagopal 2020, "FedGAN: Federated generative
adversarial networks for distributed data", algorithm 1.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tff_transfer.errors import UserError
from tff_transfer.models.generative import tasks
from tff_transfer.models.generative.architecture import (
    DISTILLATION,
    Networks,
    Transfer,
    freeze,
    layers_of,
)
from tff_transfer.models.generative.gan import GAN
from tff_transfer.models.model import Model, functional_model
from tff_transfer.networks import tracing
from tff_transfer.networks.functional import FunctionalNetwork

TERMS = ('discriminator_loss', 'generator_loss')

_PENALTY = 10.0  # Of the critic's gradients, as Gulrajani et al. have it.
# What is drawn by one key.
_LATENTS, _SHARES, _LABELS = 1, 2, 3


def build(
    of: GAN,
    image_shape: Sequence[int],
    num_classes: int,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float32,
    transfer: Transfer | None = None,
) -> Model:
    """Makes a model of a generative adversarial network.

    Args:
      of: Its networks and losses.
      image_shape: Height, width and channels of the images.
      num_classes: Classes.
      seed: The seed of the initial weights.
      dtype: The images' dtype; uint8 in [0, 255] is scaled to [0, 1].
      transfer: What it takes from another model, if anything. How far it is from that
        one, for distillation, is the squared distance between both generators' images
        at the same draws, in all pixels.

    Returns:
      The model, among whose parts are `generator` and `discriminator`, all that is
      trained of these. Its `x` are images as `inputs`, with `key` and, where classes
      are told, `label`.

    Raises:
      UserError: The images are too small, or a part cannot be frozen.
    """
    transfer = transfer or Transfer()
    networks = of.networks(image_shape, num_classes, seed)
    for name, weights in (transfer.start or {}).items():
        networks[name].set_weights(weights)
    freeze(networks, transfer.frozen)
    for name, network in networks.items():
        if not network.trainable_variables:
            raise UserError(
                f'--frozen_parts={",".join(transfer.frozen)} leaves nothing of the'
                f' {name} to train; leave one out'
            )
    both = _Adversaries(
        of,
        *(tracing.trace(n, _specs(n), training=True) for n in networks.values()),
        num_classes if of.conditional else 0,
        transfer.distill_weight,
    )
    x = collections.OrderedDict(
        inputs=tf.TensorSpec([None, *image_shape], tf.as_dtype(dtype)),
        key=tf.TensorSpec([None, 2], tf.int32),
    )
    if of.conditional:
        x['label'] = tf.TensorSpec([None], tf.int32)
    names, factors = [*TERMS], None
    if transfer.distill_weight is not None:
        names.append(DISTILLATION)
        factors = [1.0, 1.0, transfer.distill_weight]
    terms, generate, generator_loss = (
        tf.function(function, autograph=False)
        for function in (both.terms, both.generate, both.generator_loss)
    )
    joined, task = _joined(*networks.values()), tasks.of_terms(names, factors)
    initial = [
        w.value for n in (both.generator, both.discriminator) for w in _trained(n)
    ]
    return Model(
        functional_model(initial, terms, x, task=task),
        joined,
        takes_keys=True,
        fingerprint=both.fingerprint,
        task=task,
        parts=_parts(networks, joined),
        takes_labels=of.conditional,
        generate=generate,
        networks=networks,
        generator_loss=generator_loss,
    )


@dataclasses.dataclass(frozen=True)
class _Adversaries:
    """Both networks as functions of all trained weights, the generator's first.

    Attributes:
      of: What they are.
      generator: Makes images of latents float32 [n, size] and any classes, one-hot.
      discriminator: Makes logits of images and any classes.
      classes: How many classes are told, or 0.
      distill_weight: As of `Transfer`.
    """

    of: GAN
    generator: FunctionalNetwork
    discriminator: FunctionalNetwork
    classes: int
    distill_weight: float | None

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of what is computed, whatever is trained to it."""
        found = (
            self.generator.frozen_fingerprint,
            self.discriminator.frozen_fingerprint,
            *(self.of.loss, self.of.smoothing, self.distill_weight),
        )
        return hashlib.sha256(' '.join(map(str, found)).encode()).hexdigest()

    def terms(self, model_weights, x, training):
        """Returns the losses of each example, float32 [batch, 2 or 3] (see `TERMS`).

        They are of real images and of as many generated ones. What is drawn hangs on
        the batch's first key.
        """
        del training  # Nothing differs.
        (weights, _), images = model_weights, _in_unit_range(x['inputs'])
        key, labels = tf.reduce_sum(x['key'][:1], axis=0), x.get('label')
        latents = self._latents(tf.shape(images)[0], labels, key)
        made = self._made(weights, latents)
        apart = tf.stop_gradient(made)
        real = self._logits(weights, images, labels)
        fake = self._logits(weights, apart, labels)
        # The same number once more, by which the generator alone moves.
        fooled = self._logits(tuple(map(tf.stop_gradient, weights)), made, labels)
        if self.of.loss == 'wasserstein':
            penalty = self._penalty(weights, images, apart, labels, key)
            of_discriminator = fake - real + _PENALTY * penalty
        else:
            # Cross-entropy, for real images against 1 - smoothing.
            of_real = tf.nn.softplus(-real) + self.of.smoothing * real
            of_discriminator = of_real + tf.nn.softplus(fake)
        found = [of_discriminator, self._of_fooled(fooled)]
        if self.distill_weight is not None:
            found.append(self._distance(made, latents))
        return tf.stack(found, axis=1)

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
        latents = self._latents(count, labels, key)
        made = self._made(weights, latents)
        losses = self._of_fooled(self._logits(weights, made, labels))
        if self.distill_weight is not None:
            losses += self.distill_weight * self._distance(made, latents)
        return tf.reduce_mean(losses)

    def generate(self, weights, labels, key):
        """Returns images float32 [n, height, width, channels] in [0, 1].

        Args:
          weights: All weights.
          labels: Their classes, int32 [n]; where classes are not told only their
            number counts.
          key: What is drawn hangs on it, int32 [2].
        """
        return self._made(weights, self._latents(tf.shape(labels)[0], labels, key))

    def _of_fooled(self, logits):
        wasserstein = self.of.loss == 'wasserstein'
        return -logits if wasserstein else tf.nn.softplus(-logits)

    def _latents(self, count, labels, key):
        """Returns what the generator takes."""
        shape = [count, self.of.latent_size]
        latents = tf.random.stateless_normal(shape, _salted(key, _LATENTS))
        return self._with_classes(latents, labels)

    def _made(self, weights, latents):
        own = weights[: len(_trained(self.generator))]
        return self.generator.inline(_values(self.generator, own), latents)

    def _logits(self, weights, images, labels):
        own = weights[len(_trained(self.generator)) :]
        taken = self._with_classes(images, labels)
        return self.discriminator.inline(_values(self.discriminator, own), taken)[:, 0]

    def _with_classes(self, first, labels):
        return (first, tf.one_hot(labels, self.classes)) if self.classes else first

    def _distance(self, made, latents):
        """Returns the squared distance from the images of the start, [n]."""
        taught = self.generator.inline_frozen(latents)
        return tf.reduce_sum(tf.square(made - taught), axis=[1, 2, 3])

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


def _trained(network: FunctionalNetwork) -> list:
    return [weight for weight in network.weights if weight.trainable]


def _values(network: FunctionalNetwork, trained: Iterable) -> list:
    """Returns values of all weights of a network, of those that are trained."""
    trained = iter(trained)
    return [next(trained) if w.trainable else w.value for w in network.weights]


def _parts(networks: Networks, joined: tf.keras.Model) -> dict[str, frozenset[int]]:
    """Returns the numbers of the trained weights by network, and by finer parts."""
    place = {id(v): number for number, v in enumerate(joined.trainable_variables)}
    layers = {name: network.layers for name, network in networks.items()}
    found = {}
    for name, some in {**layers, **layers_of(networks)}.items():
        trained = (v for layer in some for v in layer.trainable_variables)
        found[name] = frozenset(place[id(variable)] for variable in trained)
    return {name: numbers for name, numbers in found.items() if numbers}


def _joined(generator: tf.keras.Model, discriminator: tf.keras.Model) -> tf.keras.Model:
    """Makes the discriminator on the generator, a network of both's weights."""
    taken = generator.input
    images = generator(taken)
    judged = [images, taken[1]] if isinstance(taken, list) else images
    return tf.keras.Model(taken, discriminator(judged), name='gan')


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

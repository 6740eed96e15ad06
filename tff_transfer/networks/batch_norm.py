"""BatchNorm layers inside networks: where they are, what they measure, its pooling.

Statistics are flat: the means of all layers, then their variances, float32 [channels]
each. They are pooled over batches and clients as first and second moments about an
origin, weighted by examples, so that a pooled variance has in it how the means differ
(the law of total variance), as that of unlike clients must.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import randomness, reprs
from tff_transfer.errors import UserError
from tff_transfer.networks import functional

_MEAN, _VARIANCE = 'moving_mean', 'moving_variance'


@dataclasses.dataclass(frozen=True, eq=False)
class BatchNorm:
    """The BatchNorm layers of a network that was traced in training.

    Attributes:
      network: The network.
      places: The numbers of its weights that are statistics, means first.
      scales: The numbers of the layers' own trainable weights, gamma and beta.
      momenta: How much of each statistic stays in a step, in the order of `places`.
    """

    network: functional.FunctionalNetwork
    places: tuple[int, ...]
    scales: frozenset[int]
    momenta: tuple[float, ...]

    __repr__ = reprs.of_fields

    @property
    def initial(self) -> tuple[np.ndarray, ...]:
        """The statistics that the network comes with."""
        return tuple(self.network.weights[place].value for place in self.places)

    def inline_step(
        self, values: Sequence[tf.Tensor], inputs
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, ...]]:
        """Calls the network in training.

        Args:
          values: One tensor for each of the network's weights. The statistics have
            no part in it.
          inputs: A batch.

        Returns:
          The output, and the statistics of this batch alone. Variances are those
          that BatchNorm keeps, mostly with Bessel's correction.
        """
        output, moved = self.network.inline_step(
            self.with_statistics(values, map(tf.zeros_like, self.initial)), inputs
        )
        found = dict(zip(self.network.moved, moved, strict=True))
        batch = [
            found[place] / (1 - momentum)
            for place, momentum in zip(self.places, self.momenta, strict=True)
        ]
        return output, tuple(batch)

    def with_statistics(self, values: Sequence[tf.Tensor], statistics) -> list:
        """Returns a network's weights with other statistics."""
        values = list(values)
        for place, statistic in zip(self.places, statistics, strict=True):
            values[place] = statistic
        return values


def find(network: functional.FunctionalNetwork) -> BatchNorm:
    """Finds the BatchNorm layers of a network.

    A layer is known by what it does, not by its class: it moves two of the network's
    weights, `moving_mean` and `moving_variance` by name, towards those of the batch.
    So it may stand at any depth and in an opaque module.

    Args:
      network: The network, traced in training.

    Returns:
      The layers.

    Raises:
      UserError: There is none, or what the network does in training is more than
        that.
    """
    weights = network.weights
    names = [weight.name.removesuffix(':0') for weight in weights]
    layers = [
        name.removesuffix(_MEAN)
        for number, name in enumerate(names)
        if number in network.moved and name.endswith(_MEAN)
    ]
    wanted = [layer + kind for kind in (_MEAN, _VARIANCE) for layer in layers]
    if not layers:
        raise UserError(
            'the network has no BatchNorm that moves its statistics in training;'
            ' use --batch_norm=frozen'
        )
    moved = sorted(names[number] for number in network.moved)
    if moved != sorted(wanted) or len(set(names)) < len(names):
        unlike = sorted(set(moved) ^ set(wanted)) or ['two weights of one name']
        raise UserError(
            f'the network moves in training what is no BatchNorm statistic'
            f' ({unlike[0]}); use --batch_norm=frozen'
        )
    if network.draws:
        raise UserError(
            f'the network draws random numbers in training ({network.draws[0]}), which'
            ' no key can repeat; use --batch_norm=frozen'
        )
    of_name = {name: number for number, name in enumerate(names)}
    places = tuple(of_name[name] for name in wanted)
    scales = frozenset(
        number
        for number, name in enumerate(names)
        if weights[number].trainable and name.rpartition('/')[0] + '/' in layers
    )
    return BatchNorm(network, places, scales, _momenta(network, places))


def _momenta(
    network: functional.FunctionalNetwork, places: Sequence[int]
) -> tuple[float, ...]:
    """Returns how much stays of each statistic, by two steps from other ones."""
    shape = [side or 2 for side in network.input_spec.shape]
    draw = randomness.generator(0, 'batch norm probe')
    images = tf.constant(draw.random(shape), network.input_spec.dtype)
    specs = [tf.TensorSpec(w.value.shape, w.value.dtype) for w in network.weights]
    step = tf.function(network.inline_step, autograph=False).get_concrete_function(
        specs, tf.TensorSpec(shape, network.input_spec.dtype)
    )

    def outcome(statistic):
        values = [tf.constant(weight.value) for weight in network.weights]
        for place in places:
            values[place] = tf.fill(values[place].shape, statistic)
        return step(values, images)

    (output, at_zero), (other, at_one) = outcome(0.0), outcome(1.0)
    stays = {
        number: np.asarray(one - zero)
        for number, zero, one in zip(network.moved, at_zero, at_one, strict=True)
    }
    # Momenta have few digits; float32 leaves an error that 1 - momentum would enlarge.
    momenta = tuple(round(float(np.mean(stays[place])), 5) for place in places)
    alike = all(
        np.allclose(stays[place], momentum, atol=1e-3) and 0 <= momentum < 1
        for place, momentum in zip(places, momenta, strict=True)
    )
    if not alike or not np.array_equal(output, other):
        raise UserError(
            'the statistics of the network move in another way than as moving averages'
            " of the batch's (as in batch renormalisation); use --batch_norm=frozen"
        )
    return momenta


def moments(statistics: Sequence, origin: Sequence) -> tuple:
    """Returns the moments of what has some statistics, which can be averaged.

    Args:
      statistics: Means, then variances; NumPy arrays or tensors.
      origin: Statistics of which the means are subtracted first: the nearer, the
        less is lost by rounding.

    Returns:
      The first moments of all layers, then the second ones.
    """
    layers = len(statistics) // 2
    first = [m - o for m, o in zip(statistics[:layers], origin[:layers], strict=True)]
    second = [v + f * f for v, f in zip(statistics[layers:], first, strict=True)]
    return (*first, *second)


def from_moments(averaged: Sequence, origin: Sequence) -> tuple:
    """Returns the statistics of what has such moments: the inverse of `moments`."""
    layers = len(averaged) // 2
    first, second = averaged[:layers], averaged[layers:]
    means = [f + o for f, o in zip(first, origin[:layers], strict=True)]
    variances = [tf.maximum(s - f * f, 0) for f, s in zip(first, second, strict=True)]
    return (*means, *variances)

"""Distributed differential privacy: each client adds a share of the noise.

Kairouz, Liu & Steinke 2021, "The distributed discrete Gaussian mechanism for federated
learning with secure aggregation", and Agarwal, Kairouz & Liu 2021, "The Skellam
mechanism for differentially private federated learning": updates are clipped, rotated,
rounded to integers and given integer noise by the clients, and summed modulo a power
of two by secure aggregation, so that the server, who is not trusted with an update,
sees a sum that is noisy enough. TFF's `DistributedDpSumFactory` is used here.
"""

import dataclasses
import functools
import math

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from dp_accounting import rdp
from tensorflow_federated.python.aggregators import discretization, distributed_dp

from tff_transfer.errors import UserError
from tff_transfer.options import option
from tff_transfer.privacy.accounting import Plan
from tff_transfer.privacy.budget import Budget
from tff_transfer.privacy.in_turn import InTurn

# Orders of Rényi divergence; the bound for Skellam noise is for whole ones.
ORDERS = np.array([*range(2, 129), *range(136, 513, 8)])
# The share of coordinates that may wrap around the modulus, TFF's own.
_WRAPPED = 1e-4
# What TFF calls the kinds of noise.
_KINDS = {'skellam': 'distributed_skellam', 'gaussian': 'distributed_dgauss'}


def skellam_rdp(variance: float, l1: float, l2: float, orders: np.ndarray):
    """Returns the Rényi divergence of Skellam noise.

    Agarwal et al. 2021, theorem 3.5 with corollary 3.4's sensitivities.

    Args:
      variance: Of the noise of the sum, on integers.
      l1: How far, in that norm, a client moves the sum.
      l2: The same in the Euclidean norm.
      orders: Whole orders from 2 on, [orders].

    Returns:
      The divergence at each order, [orders].
    """
    gaussian = orders * l2**2 / (2 * variance)
    more = ((2 * orders - 1) * l2**2 + 6 * l1) / (4 * variance**2)
    return gaussian + np.minimum(more, 3 * l1 / (2 * variance))


def discrete_gaussian_rdp(
    local_variance: float, clients: int, l2: float, size: int, orders: np.ndarray
):
    """Returns the Rényi divergence of a sum of clients' discrete Gaussian noise.

    Kairouz et al. 2021, proposition 14: the sum is no discrete Gaussian, but near one.

    Args:
      local_variance: Of the noise of one client, on integers.
      clients: How many add noise.
      l2: How far a client moves the sum.
      size: How many coordinates there are.
      orders: [orders].

    Returns:
      The divergence at each order, [orders].
    """
    k = np.arange(1, clients)
    tau = 10 * np.sum(np.exp(-2 * np.pi**2 * local_variance * k / (k + 1)))
    ratio = l2**2 / (clients * local_variance)
    concentrated = min(
        math.sqrt(ratio + tau * size / 2), math.sqrt(ratio) + tau * math.sqrt(size)
    )
    return orders * concentrated**2 / 2


@dataclasses.dataclass(frozen=True)
class Discrete(InTurn):
    """The mechanism of rounds whose noise is whole numbers from the clients.

    Attributes:
      clip: The clipping norm.
      bits: The logarithm of the modulus.
      kind: `'skellam'` or `'gaussian'`.
      size: How many numbers an update has.
    """

    clip: float
    bits: int
    kind: str
    size: int

    about = 'a client whose update is nothing, its noise still added'

    @property
    def bytes_up(self) -> int:
        """What a client sends: so many bits a coordinate."""
        return -(-self.padded * self.bits // 8)

    @property
    def padded(self) -> int:
        """The size after rotation by the Hadamard transform: a power of two."""
        return 2 ** max(self.size - 1, 0).bit_length()

    @property
    def scale(self) -> float:
        """What updates are multiplied by before they are rounded."""
        local = self.noise_multiplier * self.clip / math.sqrt(self.cohort)
        deviations = distributed_dp._clip_prob_to_num_stddevs(_WRAPPED)
        # TFF's own, so that what is accounted is what is done.
        found = distributed_dp._heuristic_scale_factor(
            local, self.clip, self.bits, self.cohort, self.padded, deviations
        )
        return min(float(found), distributed_dp.MAX_SCALE_FACTOR)

    @functools.cached_property
    def of_round(self) -> np.ndarray:
        """The Rényi divergence of a round that a client takes part in, [orders]."""
        scale = self.scale
        rounded = discretization.inflated_l2_norm_bound(
            self.clip, 1 / scale, 0.0, self.padded
        )
        l2 = (float(rounded) + 1e-5) * scale
        total = (self.noise_multiplier * self.clip * scale) ** 2
        if self.kind == 'gaussian':
            each = total / self.cohort
            return discrete_gaussian_rdp(each, self.cohort, l2, self.padded, ORDERS)
        l1 = math.ceil(l2 * min(math.sqrt(self.padded), l2))
        return skellam_rdp(total, l1, l2, ORDERS)

    def spent(self, rounds: int) -> float:
        """Returns epsilon after some rounds, by Rényi DP."""
        divergence = self.participations(rounds) * self.of_round
        return float(rdp.compute_epsilon(ORDERS, divergence, self.delta)[0])


@dataclasses.dataclass(frozen=True)
class Distributed(Budget):
    """Distributed differential privacy, under secure sums."""

    kind: str = option(
        'skellam',
        'The noise: skellam, the difference of two Poisson draws; or gaussian, discrete'
        ' Gaussians.',
        choices=tuple(_KINDS),
    )
    bits: int = option(
        16,
        'Bits of a coordinate that travels; enough for the sum of all clients.',
        at_least=2,
        at_most=22,
    )

    def mechanism(self, plan: Plan) -> Discrete:
        """Returns the mechanism of a run's rounds (see `Central.mechanism`).

        Raises:
          UserError: No noise is enough, or the bits are too few for so many clients.
        """
        cohort = plan.cohort
        deviations = distributed_dp._clip_prob_to_num_stddevs(_WRAPPED)
        if 4**self.bits < cohort * max(deviations**2, cohort):
            raise UserError(
                f'--distributed.bits={self.bits} cannot hold the sum of {cohort}'
                ' clients; give more'
            )
        of = (plan.population, cohort, self.delta_of(plan))
        given = Discrete(1.0, *of, self.clip, self.bits, self.kind, plan.size)
        return self.with_noise(given, plan)

    def aggregator(
        self, mechanism: Discrete
    ) -> tff.aggregators.UnweightedAggregationFactory:
        """Returns TFF's factory, of a mean over the clients of a round."""
        sums = distributed_dp.DistributedDpSumFactory(
            mechanism.noise_multiplier,
            mechanism.cohort,
            self.bits,
            self.clip,
            modclip_prob=_WRAPPED,
            mechanism=_KINDS[self.kind],
            rotation_type='hd',
        )
        return _OfSize(tff.aggregators.UnweightedMeanFactory(sums), mechanism.size)


class _OfSize(tff.aggregators.UnweightedAggregationFactory):
    """A factory of updates of the size that was accounted for, and of no other."""

    def __init__(self, inner: tff.aggregators.UnweightedAggregationFactory, size: int):
        self._inner, self._size = inner, size

    def create(self, value_type: tff.Type) -> tff.templates.AggregationProcess:
        specs = tf.nest.flatten(tff.types.type_to_tf_tensor_specs(value_type))
        found = sum(spec.shape.num_elements() for spec in specs)
        if found != self._size:
            raise UserError(
                f'the method sends {found} numbers of each client, not the'
                f' {self._size} weights that noise was found for; use another method'
            )
        return self._inner.create(value_type)

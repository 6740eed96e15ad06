"""DP-FTRL with noise from a banded factorisation, for several epochs.

Choquette-Choo et al. 2023, "(Amplified) banded matrix factorization: a unified
approach to private training": where C has so many bands that two rounds of a client
never share a row of it, each of its rounds reaches as far as one column's norm, and
of all such C the one with the least error of all rounds' sums is taken. Here C is a
Toeplitz matrix too (their section on scalability; McMahan et al. 2024, "A hassle-free
algorithm for strong differential privacy in federated learning systems").
"""

import collections
import dataclasses

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp
from scipy import optimize, signal

from tff_transfer.errors import UserError
from tff_transfer.options import option
from tff_transfer.privacy.accounting import Plan
from tff_transfer.privacy.amplified import AmplifiedBanded
from tff_transfer.privacy.budget import Budget
from tff_transfer.privacy.correlated import CorrelatedGaussian, OfQuery


def expected_loss(coefficients: np.ndarray, rounds: int) -> tuple[float, np.ndarray]:
    """Returns the error of a factorisation A = B C of the sums of all rounds so far.

    Args:
      coefficients: The first column of C, a Toeplitz matrix, float [bands].
      rounds: How many rounds there are: A is lower triangular, of ones.

    Returns:
      The mean over rounds of the squared error that one column of C of unit norm and
      unit noise would leave, ||B||_F^2 / rounds * ||C's column||^2; and its gradient
      with respect to `coefficients`, float [bands].
    """
    unit = np.zeros(rounds)
    unit[0] = 1
    b = np.cumsum(signal.lfilter([1], coefficients, unit))
    left = np.arange(rounds, 0, -1) / rounds
    error, norm = np.sum(left * b**2), np.sum(coefficients**2)
    inner = signal.lfilter([1], coefficients, b)
    slopes = [
        -2 * np.sum((left * b)[j:] * inner[: rounds - j])
        for j in range(len(coefficients))
    ]
    return error * norm, np.array(slopes) * norm + error * 2 * coefficients


def toeplitz(bands: int, rounds: int) -> np.ndarray:
    """Returns the first column of the best C, float [bands], of norm 1.

    Args:
      bands: How many coefficients may differ from 0.
      rounds: How many rounds there are, at least `bands`.
    """
    odd = np.arange(1, bands)
    start = np.cumprod((2 * odd - 1) / (2 * odd))  # Of the square root of A.

    def of_rest(rest):
        loss, slope = expected_loss(np.r_[1, rest], rounds)
        return loss, slope[1:]

    found = start
    if bands > 1:
        found = optimize.minimize(of_rest, start, jac=True, method='L-BFGS-B').x
    column = np.r_[1, found]
    return column / np.linalg.norm(column)


@dataclasses.dataclass(frozen=True)
class BandedGaussian(CorrelatedGaussian):
    """The mechanism of rounds whose noise is correlated by a banded matrix.

    Attributes:
      coefficients: The first column of C, a Toeplitz matrix, of norm 1.
    """

    coefficients: tuple[float, ...]

    def squared_sensitivity(self, rounds: int) -> int:
        """Returns how many rounds are a client's, whose columns are orthogonal."""
        return self.participations(rounds)


class CorrelatedSumQuery(tfp.GaussianSumQuery):
    """A sum whose noise in all rounds together is C^-1 z."""

    State = collections.namedtuple('State', ['gaussian', 'recent'])

    def __init__(self, clip: float, stddev: float, coefficients, specs):
        """Initializes the query.

        Args:
          clip: The clipping norm.
          stddev: The standard deviation of z.
          coefficients: The first column of C, [bands].
          specs: A structure of `tf.TensorSpec` of what is summed.
        """
        super().__init__(clip, stddev)
        self._coefficients, self._specs = coefficients, specs

    def initial_global_state(self):
        """Implements `tfp.DPQuery.initial_global_state`."""
        count = len(self._coefficients) - 1
        recent = tf.nest.map_structure(
            lambda spec: tf.zeros([count, *spec.shape], spec.dtype), self._specs
        )
        return self.State(super().initial_global_state(), recent)

    def derive_sample_params(self, global_state):
        """Implements `tfp.DPQuery.derive_sample_params`."""
        return super().derive_sample_params(global_state.gaussian)

    def get_noised_result(self, sample_state, global_state):
        """Implements `tfp.DPQuery.get_noised_result`."""
        zeros = tf.nest.map_structure(tf.zeros_like, sample_state)
        drawn, gaussian, event = super().get_noised_result(zeros, global_state.gaussian)
        first, *rest = self._coefficients

        def noise(z, recent):  # C n = z, of which this is the round's row.
            rows = tf.constant(rest, z.dtype, [len(rest)])
            return (z - tf.tensordot(rows, recent, 1)) / first

        found = tf.nest.map_structure(noise, drawn, global_state.recent)
        recent = tf.nest.map_structure(
            lambda new, old: tf.concat([new[None], old], 0)[: len(rest)],
            found,
            global_state.recent,
        )
        noised = tf.nest.map_structure(tf.add, sample_state, found)
        return noised, self.State(gaussian, recent), event


@dataclasses.dataclass(frozen=True)
class Banded(Budget):
    """DP-FTRL with noise that is correlated by a banded matrix."""

    bands: int | None = option(
        None,
        'How many rounds share noise: at most as many as there are disjoint cohorts,'
        ' and that many if not given. The server keeps noise of as many rounds.',
        at_least=1,
    )
    sampling: str = option(
        'in_turn',
        'How cohorts are drawn: in_turn, one of disjoint cohorts after another, for'
        ' which no luck of a draw is counted; or poisson, one of as many groups as'
        ' there are bands after another, each client of it by a draw of its own, so'
        ' that --clients_per_round is their mean.',
        choices=('in_turn', 'poisson'),
    )

    def check(self, name: str) -> None:
        """Checks the options (see `Budget.check`).

        Raises:
          UserError: Noise is given in none or in two ways, or a draw has no groups.
        """
        super().check(name)
        if self.sampling == 'poisson' and self.bands is None:
            raise UserError(
                f'--{name}.sampling=poisson needs --{name}.bands, the number of groups'
                ' of clients: with more of them noise is less, and each client is drawn'
                ' more often'
            )

    @property
    def by_rounds(self) -> tuple[str, ...]:
        """The options whose effect hangs on how many rounds there are."""
        return ('bands', *super().by_rounds)

    def mechanism(self, plan: Plan) -> BandedGaussian | AmplifiedBanded:
        """Returns the mechanism of a run's rounds (see `Central.mechanism`).

        Raises:
          UserError: No noise is enough, or more bands are wanted than there are rounds
            between two of a client's.
        """
        clients = (plan.population, plan.cohort)
        given = BandedGaussian(1.0, *clients, self.delta_of(plan), ())
        most = given.separation
        bands = self.bands or most
        if bands > most:
            raise UserError(
                f'--banded.bands={bands} needs as many disjoint cohorts, but'
                f' {plan.cohort} of {plan.population} clients a round make {most}; ask'
                ' for fewer of either'
            )
        best = toeplitz(min(bands, plan.rounds), plan.rounds)
        coefficients = tuple(best.tolist())
        given = dataclasses.replace(given, coefficients=coefficients)
        if self.sampling == 'poisson':
            given = AmplifiedBanded(1.0, *clients, given.delta, coefficients, bands)
        return self.with_noise(given, plan)

    def aggregator(
        self, mechanism: BandedGaussian | AmplifiedBanded
    ) -> tff.aggregators.UnweightedAggregationFactory:
        """Returns the factory that clips, sums, adds noise and divides."""
        noise = (mechanism.noise_multiplier * self.clip, mechanism.coefficients)
        return OfQuery(
            lambda specs: CorrelatedSumQuery(self.clip, *noise, specs),
            mechanism.cohort,
        )

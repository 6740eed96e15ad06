"""Epsilon of the rounds of a run, by dp_accounting.

Where each round has noise of its own (`SampledGaussian`), the mechanism of a round is
the sum of clipped updates of a drawn cohort with Gaussian noise; its guarantee is at
the level of clients: whether one client with all of its examples takes part in the run
at all (Poisson sampling: add or remove one), or which client does (cohorts of fixed
size: replace one). Noise that is correlated over rounds is in `in_turn.py`.
"""

import dataclasses
import functools
import math
from typing import Protocol

import dp_accounting
import numpy as np
from dp_accounting import pld, rdp
from scipy import optimize

from tff_transfer.errors import UserError

# More rounds need less noise than this for no epsilon that anybody asks for.
_MOST_NOISE = 1e4
# Steps of privacy losses; five times dp_accounting's, for which epsilon is higher by
# less than a millionth, and a round's is found in 20 ms instead of 100.
_GRID = 5e-4
# To what share noise is found.
_PRECISION = 1e-3


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a mechanism is made for.

    Attributes:
      population: How many clients may take part.
      cohort: How many of them do in a round.
      rounds: How many rounds there are.
      size: How many numbers a client's update has.
      epochs: How often a client uses an example in a round, at most.
    """

    population: int
    cohort: int
    rounds: int
    size: int
    epochs: int = 1


class Mechanism(Protocol):
    """What makes a run private; a dataclass.

    Attributes:
      noise_multiplier: The noise's standard deviation to the clipping norm.
      population: How many clients may take part.
      cohort: How many the server counts on in a round.
      sampling: How they are drawn.
      bytes_up: What a client sends, if it is not the update as it is.
      gradient_clip: The norm to which the gradient of each example is clipped, if the
        noise is that of these.
    """

    noise_multiplier: float
    population: int
    cohort: int
    sampling: str
    bytes_up: int | None = None
    gradient_clip: float | None = None

    def epsilon(self, rounds: int) -> float:
        """Returns epsilon after some rounds, infinite without noise.

        Args:
          rounds: How many rounds there were.
        """
        if not rounds:
            return 0.0
        return self.spent(rounds) if self.noise_multiplier else math.inf

    def spent(self, rounds: int) -> float:
        """Returns epsilon after some rounds, one or more, that have noise."""

    def described(self, rounds: int) -> str:
        """Returns what is promised after some rounds, in a line."""


@dataclasses.dataclass(frozen=True)
class SampledGaussian(Mechanism):
    """The mechanism of rounds that each have noise of their own.

    Attributes:
      noise_multiplier: The noise's standard deviation to the clipping norm.
      population: How many clients may take part.
      cohort: How many take part in a round, with Poisson sampling on average.
      poisson: Whether each client takes part by a draw of its own; else cohorts are of
        a fixed size, drawn without replacement.
      delta: The delta of the guarantee.
    """

    noise_multiplier: float
    population: int
    cohort: int
    poisson: bool
    delta: float

    @property
    def sampling(self) -> str:
        """How cohorts are drawn."""
        return 'poisson' if self.poisson else 'fixed'

    def event(self) -> dp_accounting.DpEvent:
        """Returns one round as dp_accounting has it."""
        if self.poisson:
            share = self.cohort / self.population
            noise = dp_accounting.GaussianDpEvent(self.noise_multiplier)
            return dp_accounting.PoissonSampledDpEvent(share, noise)
        # Replacing a client moves the sum by up to twice the clipping norm.
        noise = dp_accounting.GaussianDpEvent(self.noise_multiplier / 2)
        return dp_accounting.SampledWithoutReplacementDpEvent(
            self.population, self.cohort, noise
        )

    def described(self, rounds: int) -> str:
        """Returns what is promised after some rounds, in a line."""
        drawn = 'each client by itself' if self.poisson else 'always so many'
        relation = 'a client added or left out' if self.poisson else 'another client'
        return (
            f'epsilon {self.epsilon(rounds):.3f} at delta {self.delta:.2g} for'
            f' {relation}: noise multiplier {self.noise_multiplier:.4g},'
            f' {self.cohort} of {self.population} clients a round, {drawn}'
        )

    def spent(self, rounds: int) -> float:
        """Returns epsilon after some rounds.

        Rényi DP, and with Poisson sampling also privacy loss distributions, which
        know no fixed cohorts: the smaller one, since both hold.
        """
        by_rdp = _by_rdp(self, rounds)
        return min(by_rdp, _by_pld(self, rounds)) if self.poisson else by_rdp


def gaussian_epsilon(noise_multiplier: float, delta: float) -> float:
    """Returns epsilon of one Gaussian mechanism, exactly (Balle & Wang 2018).

    Args:
      noise_multiplier: The noise's standard deviation to the sensitivity, above 0.
      delta: The delta of the guarantee.
    """
    loss = pld.privacy_loss_mechanism.GaussianPrivacyLoss(noise_multiplier)

    def above(epsilon: float) -> float:
        return loss.get_delta_for_epsilon(epsilon) - delta

    if above(0.0) <= 0:
        return 0.0
    # By the tail of a normal loss of mean m and variance 2 m, generously.
    mean = 0.5 / noise_multiplier**2
    most = mean + math.sqrt(-4 * mean * math.log(delta))
    return float(optimize.brentq(above, 0.0, most, xtol=1e-12, rtol=1e-10))


@functools.lru_cache(maxsize=8)
def _rdp_of_round(mechanism: SampledGaussian) -> tuple[np.ndarray, np.ndarray]:
    """Returns the orders and the Rényi divergence of a round at each."""
    relation = dp_accounting.NeighboringRelation
    accountant = rdp.RdpAccountant(
        neighboring_relation=(
            relation.ADD_OR_REMOVE_ONE if mechanism.poisson else relation.REPLACE_ONE
        )
    )
    accountant.compose(mechanism.event())
    # Of many rounds it is the multiple, which the accountant would compute anew.
    return np.array(accountant._orders), np.array(accountant._rdp)


def _by_rdp(mechanism: SampledGaussian, rounds: int) -> float:
    orders, divergence = _rdp_of_round(mechanism)
    epsilon, _ = rdp.compute_epsilon(orders, rounds * divergence, mechanism.delta)
    return float(epsilon)


@functools.lru_cache(maxsize=8)
def _loss_of_round(mechanism: SampledGaussian):
    return pld.privacy_loss_distribution.from_gaussian_mechanism(
        mechanism.noise_multiplier,
        sampling_prob=mechanism.cohort / mechanism.population,
        use_connect_dots=True,
        value_discretization_interval=_GRID,
    )


@functools.lru_cache(maxsize=1024)  # Shadow runs of an audit ask for the same.
def _by_pld(mechanism: SampledGaussian, rounds: int) -> float:
    loss = _loss_of_round(mechanism)
    composed = loss.self_compose(rounds)
    return float(composed.get_epsilon_for_delta(mechanism.delta))


@functools.lru_cache(maxsize=8)  # Both stages of a run ask, and it takes seconds.
def noise_multiplier_for(
    target_epsilon: float, rounds: int, mechanism: Mechanism
) -> float:
    """Returns the least noise multiplier by which epsilon stays below a target.

    Args:
      target_epsilon: The most that epsilon may be, above 0.
      rounds: After so many rounds.
      mechanism: The mechanism, whose own multiplier does not matter.

    Raises:
      UserError: No noise is enough, as of one client among few.
    """

    @functools.cache
    def above(noise: float) -> float:
        """Returns by how much epsilon is above the target."""
        of_noise = dataclasses.replace(mechanism, noise_multiplier=noise)
        return of_noise.epsilon(rounds) - target_epsilon

    least = most = 1.0
    while above(most) > 0:
        most *= 2
        if most > _MOST_NOISE:
            raise UserError(
                f'no noise keeps epsilon below {target_epsilon:g} in {rounds} rounds'
                f' of {mechanism.cohort} of {mechanism.population} clients; ask for'
                ' more, or for fewer rounds'
            )
    while above(least) < 0:
        least /= 2
    if least == most:
        return most
    root = optimize.brentq(above, least, most, rtol=_PRECISION)
    while above(root) > 0:
        root *= 1 + _PRECISION
    return root

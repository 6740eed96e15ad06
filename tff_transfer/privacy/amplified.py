"""Banded noise whose cohorts are drawn, so that the luck of the draw counts too.

Choquette-Choo et al. 2023, "(Amplified) banded matrix factorization: a unified approach
to private training", section 4, algorithm 2 and theorem 4: the clients are divided once
into as many groups as C has bands, the groups have their turn one after another, and
of the group whose turn it is each client takes part by a draw of its own. A client's
rounds are then apart by the number of bands and share no row of C: they are that many
rounds of Poisson-sampled Gaussian noise, each as far as one column's norm. That is
about a client added or left out, and holds if nobody knows who takes part.
"""

import dataclasses

from tff_transfer.privacy.accounting import Mechanism, SampledGaussian


@dataclasses.dataclass(frozen=True)
class AmplifiedBanded(Mechanism):
    """The mechanism of rounds whose noise is banded and whose cohorts are drawn.

    Attributes:
      noise_multiplier: That of z, to the clipping norm.
      population: How many clients may take part.
      cohort: How many take part in a round, on average.
      delta: The delta of the guarantee.
      coefficients: The first column of C, a Toeplitz matrix, of norm 1.
      groups: How many groups of clients have their turn, at least as many as there are
        coefficients.
    """

    noise_multiplier: float
    population: int
    cohort: int
    delta: float
    coefficients: tuple[float, ...]
    groups: int

    sampling = 'poisson in turn'

    def spent(self, rounds: int) -> float:
        """Returns epsilon after some rounds (see `SampledGaussian.spent`)."""
        of_group = SampledGaussian(
            self.noise_multiplier,
            self.population,
            self.cohort * self.groups,
            poisson=True,
            delta=self.delta,
        )
        return of_group.spent(-(-rounds // self.groups))

    def described(self, rounds: int) -> str:
        """Returns what is promised after some rounds, in a line."""
        return (
            f'epsilon {self.epsilon(rounds):.3f} at delta {self.delta:.2g} for a client'
            f' added or left out: noise multiplier {self.noise_multiplier:.4g},'
            f' {self.cohort} of {self.population} clients a round, each of the group'
            f' whose turn it is by itself; {self.groups} groups'
        )

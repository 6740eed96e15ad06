"""Mechanisms of runs in which clients take part in turn.

Cohorts are drawn so that there are always as many rounds between two of a client's as
there are disjoint cohorts (`data.cohorts.choose_in_turn`). No luck of a draw is counted
on: the server may know who takes part when.
"""

import dataclasses

from tff_transfer.privacy.accounting import Mechanism


@dataclasses.dataclass(frozen=True)
class InTurn(Mechanism):
    """The mechanism of a run's rounds; each kind of noise has its own.

    Attributes:
      noise_multiplier: The noise's standard deviation to the clipping norm.
      population: How many clients may take part.
      cohort: How many take part in a round.
      delta: The delta of the guarantee.
    """

    noise_multiplier: float
    population: int
    cohort: int
    delta: float

    sampling = 'in turn'
    # What is not known of a client, with the promise.
    about = 'a client whose updates are left out'

    @property
    def separation(self) -> int:
        """How many rounds lie from one of a client's to its next."""
        return max(self.population // self.cohort, 1)

    def participations(self, rounds: int) -> int:
        """Returns in how many of the first rounds a client takes part at most."""
        return -(-rounds // self.separation)

    def described(self, rounds: int) -> str:
        """Returns what is promised after some rounds, in a line."""
        return (
            f'epsilon {self.epsilon(rounds):.3f} at delta {self.delta:.2g} for'
            f' {self.about}: noise multiplier {self.noise_multiplier:.4g},'
            f' {self.cohort} of {self.population} clients a round, in turn, each every'
            f' {self.separation} rounds'
        )

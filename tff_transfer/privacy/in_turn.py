"""Gaussian noise that is correlated over rounds, of clients who take part in turn.

What the server shows of all rounds is C x + z: x the rounds' sums of clipped updates,
z Gaussian noise, C a lower triangular matrix of the rounds, whose inverse correlates
the noise that each round's sum gets (the matrix mechanism; DP-FTRL's tree is one such
C). A client moves C x by the columns of its rounds. Cohorts are drawn so that there
are always as many rounds between two of a client's as there are disjoint cohorts
(`data.cohorts.choose_in_turn`). No luck of a draw is counted on: the server may know
who takes part when.
"""

import dataclasses
import math

import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy as tfp
from tensorflow_federated.python.core.impl.types import type_conversions

from tff_transfer.privacy import accounting


@dataclasses.dataclass(frozen=True)
class InTurnGaussian(accounting.Mechanism):
    """The mechanism of a run's rounds; each kind of noise has its own.

    Attributes:
      noise_multiplier: The standard deviation of z to the clipping norm.
      population: How many clients may take part.
      cohort: How many take part in a round.
      delta: The delta of the guarantee.
    """

    noise_multiplier: float
    population: int
    cohort: int
    delta: float

    sampling = 'in turn'

    @property
    def separation(self) -> int:
        """How many rounds lie from one of a client's to its next."""
        return max(self.population // self.cohort, 1)

    def squared_sensitivity(self, rounds: int) -> int:
        """Returns how far a client moves C x after some rounds.

        Returns:
          The square of the norm, for updates of norm 1.
        """
        raise NotImplementedError

    def epsilon(self, rounds: int) -> float:
        """Returns epsilon after some rounds: all of them are one Gaussian mechanism.

        Args:
          rounds: How many rounds there were.
        """
        if not rounds:
            return 0.0
        if not self.noise_multiplier:
            return math.inf
        reach = math.sqrt(self.squared_sensitivity(rounds))
        return accounting.gaussian_epsilon(self.noise_multiplier / reach, self.delta)

    def described(self, rounds: int) -> str:
        """Returns what is promised after some rounds, in a line."""
        return (
            f'epsilon {self.epsilon(rounds):.3f} at delta {self.delta:.2g} for'
            f' a client whose updates are left out: noise multiplier'
            f' {self.noise_multiplier:.4g}, {self.cohort} of {self.population} clients'
            f' a round, in turn, each every {self.separation} rounds'
        )


class OfQuery(tff.aggregators.UnweightedAggregationFactory):
    """Sums by one of tensorflow_privacy's queries, over a fixed number of clients.

    `tff.aggregators.DifferentiallyPrivateFactory` of a query that must know the shapes
    of what it sums.
    """

    def __init__(self, query, cohort: int):
        """Initializes the factory.

        Args:
          query: Makes of a structure of `tf.TensorSpec` a `tfp.SumAggregationDPQuery`.
          cohort: What its sum is divided by.
        """
        self._query, self._cohort = query, cohort

    def create(self, value_type: tff.Type) -> tff.templates.AggregationProcess:
        """Returns the aggregation of values of a type."""
        specs = type_conversions.type_to_tf_tensor_specs(value_type)
        specs = tf.nest.map_structure(lambda s: tf.TensorSpec(s.shape, s.dtype), specs)
        mean = tfp.NormalizedQuery(self._query(specs), float(self._cohort))
        return tff.aggregators.DifferentiallyPrivateFactory(mean).create(value_type)

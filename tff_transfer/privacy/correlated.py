"""Gaussian noise that is correlated over rounds.

What the server shows of all rounds is C x + z: x the rounds' sums of clipped updates,
z Gaussian noise, C a lower triangular matrix of the rounds, whose inverse correlates
the noise that each round's sum gets (the matrix mechanism; DP-FTRL's tree is one such
C). A client moves C x by the columns of its rounds.
"""

import dataclasses
import math

import tensorflow_federated as tff
import tensorflow_privacy as tfp

from tff_transfer.privacy.accounting import gaussian_epsilon
from tff_transfer.privacy.in_turn import InTurn


@dataclasses.dataclass(frozen=True)
class CorrelatedGaussian(InTurn):
    """The mechanism of rounds that share noise; `noise_multiplier` is that of z."""

    def squared_sensitivity(self, rounds: int) -> int:
        """Returns how far a client moves C x after some rounds.

        Returns:
          The square of the norm, for updates of norm 1.
        """
        raise NotImplementedError

    def spent(self, rounds: int) -> float:
        """Returns epsilon: all rounds together are one Gaussian mechanism."""
        reach = math.sqrt(self.squared_sensitivity(rounds))
        return gaussian_epsilon(self.noise_multiplier / reach, self.delta)


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
        query = self._query(tff.types.type_to_tf_tensor_specs(value_type))
        mean = tfp.NormalizedQuery(query, float(self._cohort))
        return tff.aggregators.DifferentiallyPrivateFactory(mean).create(value_type)

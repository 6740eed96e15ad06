"""DP-FTRL with noise from a tree that restarts (central, without sampling).

Kairouz et al. 2021, "Practical and private (deep) learning without sampling or
shuffling", algorithm 1 and appendix D: the sum of all rounds so far gets the noise of
the few nodes of a binary tree that cover them, and a new tree begins when all clients
have had their turn. Honaker 2015's estimate makes the most of a tree's nodes.
tensorflow_privacy's are `TreeResidualSumQuery` and `RestartQuery`, which are used here.
"""

import dataclasses

import tensorflow_federated as tff
import tensorflow_privacy as tfp

from tff_transfer.privacy.accounting import Plan
from tff_transfer.privacy.budget import Budget
from tff_transfer.privacy.correlated import CorrelatedGaussian, OfQuery


@dataclasses.dataclass(frozen=True)
class TreeGaussian(CorrelatedGaussian):
    """The mechanism of rounds whose noise is that of trees, one after another."""

    def squared_sensitivity(self, rounds: int) -> int:
        """Returns the number of nodes that a client is in, as the square of a norm."""
        trees, rest = divmod(rounds, self.separation)
        return trees * _depth(self.separation) + _depth(rest)


def _depth(leaves: int) -> int:
    """Returns how many nodes of a binary tree are above a leaf, itself among them."""
    return leaves.bit_length()


@dataclasses.dataclass(frozen=True)
class Tree(Budget):
    """DP-FTRL with a tree of noise."""

    def mechanism(self, plan: Plan) -> TreeGaussian:
        """Returns the mechanism of a run's rounds (see `Central.mechanism`)."""
        given = TreeGaussian(1.0, plan.population, plan.cohort, self.delta_of(plan))
        return self.with_noise(given, plan)

    def aggregator(
        self, mechanism: TreeGaussian
    ) -> tff.aggregators.UnweightedAggregationFactory:
        """Returns the factory that clips, sums, adds noise and divides."""

        def query(specs):
            sums = tfp.TreeResidualSumQuery.build_l2_gaussian_query(
                self.clip, mechanism.noise_multiplier, specs
            )
            period = tfp.restart_query.PeriodicRoundRestartIndicator(
                mechanism.separation
            )
            return tfp.restart_query.RestartQuery(sums, period)

        return OfQuery(query, mechanism.cohort)

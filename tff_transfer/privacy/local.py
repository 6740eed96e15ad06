"""Local differential privacy: what leaves a client is private already.

Nobody is trusted with an update, and nobody counts on who else takes part. What that
costs is noise that grows with the number of weights, for each client: it is for few
weights and many clients.
"""

import dataclasses
import math
from collections.abc import Callable

import tensorflow as tf
import tensorflow_federated as tff
from dp_accounting import pld

from tff_transfer import vectors
from tff_transfer.options import option
from tff_transfer.privacy import randomizers
from tff_transfer.privacy.accounting import Plan, gaussian_epsilon
from tff_transfer.privacy.budget import Budget
from tff_transfer.privacy.in_turn import InTurn


@dataclasses.dataclass(frozen=True)
class Randomized(InTurn):
    """The mechanism of rounds of which each client randomizes what it sends.

    Attributes:
      kind: `'gaussian'`, `'laplace'` or `'privunit'`, whose `noise_multiplier` is one
        over its epsilon in one round.
    """

    kind: str

    about = 'what any client sends'

    def spent(self, rounds: int) -> float:
        """Returns epsilon of a client who took all its turns.

        Any two updates are told apart, so that the Gaussian mechanism's sensitivity is
        twice the norm; of those with an epsilon of their own, the sum or the
        composition of privacy losses, whichever is less.
        """
        times = self.participations(rounds)
        if self.kind == 'gaussian':
            reach = 2 * math.sqrt(times)
            return gaussian_epsilon(self.noise_multiplier / reach, self.delta)
        of_round = self.of_round
        if times == 1 or of_round > 20:  # More would fill the memory, for nothing.
            return times * of_round
        loss = pld.privacy_loss_distribution.from_privacy_parameters(
            pld.common.DifferentialPrivacyParameters(of_round, 0.0)
        )
        composed = loss.self_compose(times)
        spent = composed.get_epsilon_for_delta(self.delta)
        return min(float(spent), times * of_round)

    @property
    def of_round(self) -> float:
        """The epsilon of one use, where there is one without delta."""
        return (2 if self.kind == 'laplace' else 1) / self.noise_multiplier


@dataclasses.dataclass(frozen=True)
class Local(Budget):
    """Local differential privacy."""

    kind: str = option(
        'privunit',
        'What a client does to its update: privunit, its direction alone, with the'
        ' least error for an epsilon of its own; gaussian; or laplace, clipped in the'
        ' norm of absolute values. noise_multiplier is the scale of the noise to the'
        " clipping norm, and of privunit one over a round's epsilon.",
        choices=('privunit', 'gaussian', 'laplace'),
    )

    def mechanism(self, plan: Plan) -> Randomized:
        """Returns the mechanism of a run's rounds (see `Central.mechanism`)."""
        given = Randomized(
            1.0, plan.population, plan.cohort, self.delta_of(plan), self.kind
        )
        return self.with_noise(given, plan)

    def aggregator(
        self, mechanism: Randomized
    ) -> tff.aggregators.UnweightedAggregationFactory:
        """Returns the factory of a mean of what clients randomized."""
        noise = mechanism.noise_multiplier
        if self.kind == 'privunit':
            randomize = randomizers.privunit(self.clip, mechanism.of_round)
        else:
            randomize = getattr(randomizers, self.kind)(self.clip, noise)
        return Randomizing(randomize)


class Randomizing(tff.aggregators.UnweightedAggregationFactory):
    """The mean of updates that each client randomizes as one vector."""

    def __init__(self, randomize: Callable[[tf.Tensor], tf.Tensor]):
        """Initializes the factory.

        Args:
          randomize: Makes of a vector, float32 [size], what is sent, of the same shape.
        """
        self._randomize = randomize

    def create(self, value_type: tff.Type) -> tff.templates.AggregationProcess:
        """Returns the aggregation of values of a type."""
        mean = tff.aggregators.UnweightedMeanFactory().create(value_type)

        @tff.tensorflow.computation(value_type)
        @tf.function(autograph=False)
        def randomize(value):
            return vectors.shaped(self._randomize(vectors.joined(value)), value)

        @tff.federated_computation(
            mean.initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
        )
        def next_round(state, value):
            return mean.next(state, tff.federated_map(randomize, value))

        return tff.templates.AggregationProcess(mean.initialize, next_round)

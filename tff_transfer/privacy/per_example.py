"""Differential privacy of single examples: DP-SGD at the client.

Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1: in each of
its local steps a client clips the gradient of every example and adds Gaussian noise to
their sum. Its owner, such as a hospital, is trusted with its own examples, the server
and the other clients are not.

An example is in one batch of each epoch, whoever knows the order: nothing hangs on the
luck of a draw, so that no amplification by sampling is counted, which batches that are
shuffled do not have as Poisson samples do (Chua et al. 2024, "How private are DP-SGD
implementations?"). All uses of an example are one Gaussian mechanism.
"""

import dataclasses
import math

from tff_transfer.options import option
from tff_transfer.privacy.accounting import Plan, gaussian_epsilon
from tff_transfer.privacy.budget import Budget
from tff_transfer.privacy.in_turn import InTurn


@dataclasses.dataclass(frozen=True)
class NoisyGradients(InTurn):
    """The mechanism of a run whose clients train with noise.

    Attributes:
      clip: The norm to which the gradient of an example is clipped.
      epochs: How often a client uses an example in a round, at most.
    """

    clip: float
    epochs: int

    about = 'an example that is left out'

    @property
    def gradient_clip(self) -> float:
        """The norm to which the gradient of an example is clipped."""
        return self.clip

    def spent(self, rounds: int) -> float:
        """Returns epsilon of an example whose client took all its turns."""
        uses = self.participations(rounds) * self.epochs
        return gaussian_epsilon(self.noise_multiplier / math.sqrt(uses), self.delta)


@dataclasses.dataclass(frozen=True)
class PerExample(Budget):
    """Differential privacy of single examples."""

    clip: float = option(
        1.0, "The norm to which an example's gradient is clipped.", above=0
    )

    def mechanism(self, plan: Plan) -> NoisyGradients:
        """Returns the mechanism of a run's rounds (see `Central.mechanism`)."""
        clients = (plan.population, plan.cohort, self.delta_of(plan))
        given = NoisyGradients(1.0, *clients, self.clip, plan.epochs)
        return self.with_noise(given, plan)

    def aggregator(self, mechanism: NoisyGradients) -> None:
        """Returns none: what clients send has all the noise, and its mean is plain."""

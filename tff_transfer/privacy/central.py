"""Central differential privacy of clients: clipped updates, and noise by the server.

McMahan et al. 2018, "Learning differentially private recurrent language models",
algorithm 1 with a fixed denominator; adaptive clipping of Andrew et al. 2021,
"Differentially private learning with adaptive clipping". TFF's are
`tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed` and `gaussian_adaptive`,
which are used here. The server is trusted: it sees each update before it adds noise.
What is protected is that a client takes part at all, with all of its examples.
"""

import dataclasses
import warnings

import tensorflow_federated as tff

from tff_transfer.options import option
from tff_transfer.privacy.accounting import Plan, SampledGaussian
from tff_transfer.privacy.budget import Budget


@dataclasses.dataclass(frozen=True)
class Central(Budget):
    """Central differential privacy, with noise of its own in each round."""

    quantile: float | None = option(
        None,
        'Let the clipping norm follow this quantile of the norms of updates, found'
        ' with noise too, out of the same epsilon; --central.clip is then that of the'
        ' first round.',
        above=0,
        below=1,
    )
    sampling: str = option(
        'poisson',
        'How cohorts are drawn: poisson, each client by a draw of its own, so that'
        ' --clients_per_round is their mean; or fixed, always so many, for which more'
        ' is spent.',
        choices=('poisson', 'fixed'),
    )

    def mechanism(self, plan: Plan) -> SampledGaussian:
        """Returns the mechanism of a run's rounds.

        Args:
          plan: What it is for.

        Raises:
          UserError: No noise is enough.
        """
        delta, poisson = self.delta_of(plan), self.sampling == 'poisson'
        given = SampledGaussian(1.0, plan.population, plan.cohort, poisson, delta)
        return self.with_noise(given, plan)

    def aggregator(
        self, mechanism: SampledGaussian
    ) -> tff.aggregators.UnweightedAggregationFactory:
        """Returns TFF's factory that clips, sums, adds noise and divides."""
        noise, cohort = mechanism.noise_multiplier, float(mechanism.cohort)
        make = tff.aggregators.DifferentiallyPrivateFactory
        with warnings.catch_warnings():  # Of little noise, as in tests of it.
            warnings.simplefilter('ignore')
            if self.quantile is None:
                return make.gaussian_fixed(noise, cohort, self.clip)
            return make.gaussian_adaptive(
                noise,
                cohort,
                initial_l2_norm_clip=self.clip,
                target_unclipped_quantile=self.quantile,
                # A twentieth of the clients, as in the paper, is too little noise for
                # the count where few clients need much of it.
                clipped_count_stddev=max(0.05 * cohort, noise),
            )

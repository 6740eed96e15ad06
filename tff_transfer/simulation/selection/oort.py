"""Clients of high utility, of their examples and of their devices (Lai et al. 2021).

"Oort: Efficient federated learning via guided participant selection", algorithm 1,
without its pacer. The statistical utility of a client that took part is
examples * sqrt(mean of squared losses) of the model that it got; clipped at the 95 %
quantile of all and, as in the authors' code, scaled to [0, 1] over clients, so that
what is added is of its size: in round R, sqrt(0.1 ln(R) / L), where L is the round in
which it last took part. If it then took longer than the preferred duration T, t > T,
the sum is multiplied by (T / t) ** alpha. T is a quantile of the durations that are
known; the paper's pacer, which raises T when utilities fall, is not here. Clients
without a duration are not penalised.

A share of the cohort, which falls from round to round, goes to clients that never took
part, by chance: the paper prefers faster ones, but nothing is known of them here. The
others are drawn in proportion to utility among those that have at least `cutoff` of
the utility of the last that would have a place by rank. The server needs to know each
client's number of examples, and of its last round the mean of squared losses, which
round it was, and how long it took.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from tff_transfer import randomness
from tff_transfer.options import option
from tff_transfer.simulation.selection.draws import drawn, log
from tff_transfer.simulation.selection.rule import Rule

# Utilities above this quantile count as it (section 4.4: outliers are clipped).
_CLIPPED = 0.95


@dataclasses.dataclass(frozen=True)
class Oort(Rule):
    """By utility, and a falling share of clients that never took part."""

    needs: ClassVar[tuple[str, ...]] = ('examples', 'squared_losses', 'last', 'seconds')

    exploration: float = option(
        0.9,
        'The share of the first cohort that goes to clients that never took part.',
        at_least=0,
        at_most=1,
    )
    decay: float = option(
        0.98,
        'What that share is multiplied by in each round.',
        above=0,
        at_most=1,
    )
    least_exploration: float = option(
        0.2, 'Below which it does not fall.', at_least=0, at_most=1
    )
    cutoff: float = option(
        0.95,
        'The share of the utility of the last by rank that lets others in (c).',
        at_least=0,
        at_most=1,
    )
    alpha: float = option(
        2.0, 'The exponent of the penalty of slow clients.', at_least=0
    )
    preferred: float = option(
        0.3,
        'The quantile of known durations that is the preferred one, T.',
        at_least=0,
        at_most=1,
    )

    def utilities(self, known, round_number: int) -> np.ndarray:
        """Returns utilities of clients that all took part, float64 [clients]."""
        utility = known.examples * np.sqrt(known.squared_losses)
        utility = np.minimum(utility, np.quantile(utility, _CLIPPED, method='lower'))
        span = np.ptp(utility)
        utility = (utility - utility.min()) / (span or 1.0)
        utility += np.sqrt(0.1 * np.log(round_number) / known.last)
        timed = ~np.isnan(known.seconds)
        if timed.any():
            limit = np.quantile(known.seconds[timed], self.preferred)
            slow = timed & (known.seconds > limit)
            utility[slow] *= (limit / known.seconds[slow]) ** self.alpha
        return utility

    def choose(self, known, size, *, seed, round_number, loss_of):
        """Returns the clients of a round (see `Rule`)."""
        del loss_of
        draw = randomness.generator(seed, 'oort', round_number)
        new = np.flatnonzero(np.isnan(known.squared_losses))
        old = np.flatnonzero(~np.isnan(known.squared_losses))
        share = self.exploration * self.decay ** (round_number - 1)
        share = max(share, min(self.least_exploration, self.exploration))
        # 0.7 * 10 is below 7.
        by_utility = min(int((1 - share) * size + 1e-9), len(old))
        explored = draw.permutation(new)[: size - by_utility]
        by_utility = size - len(explored)
        if not by_utility:
            return explored
        utility = self.utilities(known.of(old), round_number)
        limit = self.cutoff * np.sort(utility)[-by_utility]
        admitted = old[utility >= limit]
        chosen = admitted[drawn(log(utility[utility >= limit]), by_utility, draw)]
        return np.r_[chosen, explored]

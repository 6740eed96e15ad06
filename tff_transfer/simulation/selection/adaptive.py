"""Clients whose weight grows exponentially with their loss, and some by chance.

Goetz et al. 2019, "Active federated learning", algorithm 1. As boosting does with
examples, clients on which the model is bad get exponentially more weight. A client's
value is v = sqrt(examples) * mean loss, by the loss that it told when it last took
part; the share `dropped` of clients with the lowest values gets no weight;
(1 - uniform) of the cohort, rounded down, is drawn in proportion to
exp(temperature * v), without replacement, and the rest of it uniformly of all others,
so that each client is reached. Clients that never took part come first. The paper has
no weights that make the mean unbiased, and there are none here. The server needs to
know each client's number of examples, and the loss that it told last.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from tff_transfer import randomness
from tff_transfer.options import option
from tff_transfer.simulation.selection.draws import drawn
from tff_transfer.simulation.selection.rule import Rule


@dataclasses.dataclass(frozen=True)
class Adaptive(Rule):
    """In proportion to exponentials of values, and some uniformly."""

    needs: ClassVar[tuple[str, ...]] = ('examples', 'losses')

    dropped: float = option(
        0.75,
        "The share of clients, of the lowest values, without weight (the paper's"
        ' alpha 1).',
        at_least=0,
        below=1,
    )
    temperature: float = option(
        0.01, "What values are multiplied by (the paper's alpha 2).", at_least=0
    )
    uniform: float = option(
        0.1,
        "The share of the cohort that is drawn uniformly (the paper's alpha 3).",
        at_least=0,
        at_most=1,
    )

    def choose(self, known, size, *, seed, round_number, loss_of):
        """Returns the clients of a round (see `Rule`)."""
        del loss_of
        draw = randomness.generator(seed, 'adaptive cohort', round_number)
        values = np.sqrt(known.examples) * known.losses
        values = np.where(np.isnan(values), np.inf, values)
        weights = np.where(np.isinf(values), np.inf, self.temperature * values)
        lowest = np.argsort(values, kind='stable')[: int(self.dropped * len(known))]
        weights[lowest] = np.where(np.isinf(values[lowest]), np.inf, -np.inf)
        by_value = int((1 - self.uniform) * size + 1e-9)  # 0.7 * 10 is below 7.
        chosen = drawn(weights, by_value, draw)
        others = np.setdiff1d(np.arange(len(known)), chosen)
        return np.r_[chosen, draw.permutation(others)[: size - by_value]]

"""Clients whose examples together have all classes alike (Zhang et al. 2023, Fed-CBS).

"Fed-CBS: A heterogeneity-aware client sampling mechanism for federated learning via
class-imbalance reduction", section 4. Clients are drawn one after another; in round k
the first in proportion to

    1 / QCID(c) + exploration * sqrt(3 ln(k) / (2 times of c))

where a client that never took part comes first, and the m-th in proportion to
QCID(those before and c) ** -m: the paper's beta_m = m. The server needs to know how
many examples of each class every client has; the paper computes QCID of products of
these under homomorphic encryption, which is not done here. A client without examples
comes last.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from tff_transfer import randomness
from tff_transfer.options import option
from tff_transfer.simulation.selection.draws import drawn, log
from tff_transfer.simulation.selection.rule import Rule


def imbalance(counts: np.ndarray) -> np.ndarray:
    """Returns how unlike the shares of classes are: QCID (Zhang et al. 2023, eq. 2).

    The sum over B classes of the squares of share - 1 / B; 0 if all are alike.

    Args:
      counts: Examples of each class, [..., classes]; not all 0.
    """
    shares = counts / np.sum(counts, axis=-1, keepdims=True)
    return np.sum(np.square(shares - 1 / counts.shape[-1]), axis=-1)


@dataclasses.dataclass(frozen=True)
class ClassBalance(Rule):
    """Drawn one after another by the imbalance of their union."""

    needs: ClassVar[tuple[str, ...]] = ('labels', 'times')

    exploration: float = option(
        10.0,
        'How much more likely the first client is the less often it took part'
        ' (lambda).',
        at_least=0,
    )

    def choose(self, known, size, *, seed, round_number, loss_of):
        """Returns the clients of a round (see `Rule`), in the order drawn."""
        del loss_of
        draw = randomness.generator(seed, 'class balance', round_number)
        counts, chosen = known.labels.astype(np.float64), []
        some = counts.any(axis=1)
        for power in range(1, size + 1):
            left = np.setdiff1d(np.flatnonzero(some), chosen)
            if not len(left):  # Nobody is left who has examples.
                left = np.setdiff1d(np.arange(len(known)), chosen)
                more = draw.permutation(left)[: size - len(chosen)]
                return np.array([*chosen, *more], np.int64)
            together = counts[left] + counts[chosen].sum(axis=0)
            weights = -power * log(imbalance(together))
            if not chosen:
                weights = np.logaddexp(weights, self._bonus(known, left, round_number))
            chosen.append(left[drawn(weights, 1, draw)[0]])
        return np.array(chosen, np.int64)

    def _bonus(self, known, places: np.ndarray, round_number: int) -> np.ndarray:
        """Returns logarithms of what is added for clients that rarely took part."""
        times = known.times[places]
        never = np.where(self.exploration, np.inf, 0.0)
        rare = np.sqrt(1.5 * np.log(round_number) / np.maximum(times, 1))
        return log(np.where(times, self.exploration * rare, never))

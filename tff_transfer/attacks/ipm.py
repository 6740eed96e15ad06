"""Inner product manipulation: a multiple of the opposite of the honest mean.

Xie, Koyejo, Gupta 2020, "Fall of empires: breaking Byzantine-tolerant SGD by inner
product manipulation", section 3: -epsilon times the mean of honest updates. A small
epsilon hides among honest updates, a large one turns the mean round. Who attacks knows
all honest updates of the round.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class IPM:
    """Inner product manipulation."""

    epsilon: float = option(
        0.5, 'What the opposite of the honest mean is multiplied by.', above=0
    )

    def forged(self, honest, hostile):
        """Returns what all hostile clients send (as of `ALIE`)."""
        return -self.epsilon * tf.reduce_mean(honest, 0)

"""Noise: hostile clients send nothing but noise.

Blanchard et al. 2017, "Machine learning with adversaries: Byzantine tolerant gradient
descent", section 4 (Gaussian Byzantine workers). Who attacks knows nothing.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class GaussianNoise:
    """Gaussian noise."""

    deviation: float = option(
        1.0, 'Its standard deviation, in the units of updates.', above=0
    )

    def sent(self, own, key):
        """Returns the update that a hostile client sends (as of `SignFlip`)."""
        return self.deviation * tf.random.stateless_normal(tf.shape(own), key)

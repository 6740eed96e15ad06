"""Sign flipping: hostile clients send the opposite of their update.

Li et al. 2019, "RSA: Byzantine-robust stochastic aggregation methods for distributed
learning from heterogeneous datasets", section 5. Who attacks knows its own update
alone.
"""

import dataclasses

from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class SignFlip:
    """Sign flipping."""

    scale: float = option(
        4.0, "What the opposite of a hostile client's update is multiplied by.", above=0
    )

    def sent(self, own, key):
        """Returns the update that a hostile client sends, [size].

        Args:
          own: What it would send if it were honest, float32 [size].
          key: What its draws hang on, int32 [2].
        """
        return -self.scale * own

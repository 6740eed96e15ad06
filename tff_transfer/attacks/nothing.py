"""No attack: all clients are honest."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class NoAttack:
    """No attack."""

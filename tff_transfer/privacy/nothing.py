"""Nothing is promised."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class NoPrivacy:
    """No privacy."""

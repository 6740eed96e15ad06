"""The weighted mean, of updates that the server sees."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Plain:
    """The weighted mean."""

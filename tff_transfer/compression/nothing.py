"""Nothing is compressed."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class NoCompression:
    """No compression."""

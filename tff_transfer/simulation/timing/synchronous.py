"""Rounds: the server waits for the clients that it asked."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Synchronous:
    """Rounds, one after the other."""

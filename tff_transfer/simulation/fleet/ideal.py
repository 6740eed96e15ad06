"""Devices of which nothing is asked: always there, never late; no time is simulated."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Ideal:
    """Clients that are always there and never late."""

    def fleet(self, names, seed) -> None:
        """Returns nothing (see `Kind`)."""
        del names, seed

"""How many bytes the protocol takes, exactly, where nobody drops out."""

import dataclasses

from tff_transfer.secure_aggregation import messages, packing
from tff_transfer.secure_aggregation.primitives import BLOCK, KEY


@dataclasses.dataclass(frozen=True)
class Bytes:
    """Bytes of the messages of the four rounds.

    Attributes:
      up: What one client sends in each round.
      down: What one client receives in each round.
      clients: How many clients there are.
    """

    up: tuple[int, ...]
    down: tuple[int, ...]
    clients: int

    @property
    def client(self) -> int:
        """What one client sends and receives in all."""
        return sum(self.up) + sum(self.down)

    @property
    def server(self) -> int:
        """What the server receives and sends in all."""
        return self.clients * self.client


def of_protocol(clients: int, length: int, neighbours: int, bits: int) -> Bytes:
    """Returns the bytes of a sum of which nobody drops out.

    Args:
      clients: n.
      length: Numbers of a vector.
      neighbours: k of each client; n - 1 in the complete graph.
      bits: b, of each number.
    """
    header, each = messages.HEADER, messages.ID
    up = (
        header + 2 * KEY + BLOCK,
        header + neighbours * (each + messages.SEALED),
        header + packing.packed_bytes(length, bits),
        header + each + neighbours * (each + BLOCK),
    )
    down = (
        header + neighbours * (each + 2 * KEY),
        header + neighbours * (each + messages.SEALED),
        header + each + neighbours * each,
        0,
    )
    return Bytes(up, down, clients)

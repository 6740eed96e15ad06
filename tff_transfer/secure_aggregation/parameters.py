"""What all parties know before the first round of the protocol."""

import dataclasses

from tff_transfer.errors import UserError
from tff_transfer.secure_aggregation.graphs import Graph

SESSION = 16


@dataclasses.dataclass(frozen=True)
class Parameters:
    """One sum: made anew for each, with a session of its own.

    Attributes:
      session: 16 bytes that no other sum has.
      graph: Who shares masks with whom.
      threshold: t, how many of a client's neighbours give its secrets: fewer that
        collude learn nothing, fewer that are left end the protocol. If the server may
        lie about who dropped out, 2 t must be more than the neighbours and those of
        them who collude.
      length: How many numbers each client has.
      bits: b, from 1 to 32: sums are modulo 2^b.
    """

    session: bytes
    graph: Graph
    threshold: int
    length: int
    bits: int = 32

    def __post_init__(self):
        if len(self.session) != SESSION:
            raise UserError(f'a session is {SESSION} bytes, not {len(self.session)}')
        # A share of a threshold of 1 is the secret.
        if not 2 <= self.threshold <= self.graph.degree:
            raise UserError(
                f'the threshold is from 2 to the {self.graph.degree} neighbours of a'
                f' client, not {self.threshold}'
            )
        if self.length < 1 or not 1 <= self.bits <= 32:
            raise UserError('a vector has at least 1 number, of 1 to 32 bits')

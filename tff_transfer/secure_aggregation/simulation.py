"""All parties of the protocol in one process, with clients that drop out.

The messages are the bytes that would travel; what the server receives is kept, so that
tests can look at what it sees.
"""

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from tff_transfer.errors import UserError
from tff_transfer.secure_aggregation import messages, primitives
from tff_transfer.secure_aggregation.client import Client
from tff_transfer.secure_aggregation.parameters import Parameters
from tff_transfer.secure_aggregation.primitives import Source
from tff_transfer.secure_aggregation.server import Server


@dataclasses.dataclass(frozen=True)
class Round:
    """What one round of the protocol was.

    Attributes:
      received: What the server received, by client: its view of the round.
      sent: What it sent back, by client; nothing in the last round.
      client_seconds: Processor time of each client that answered.
      server_seconds: Processor time of the server.
    """

    received: Mapping[int, bytes]
    sent: Mapping[int, bytes]
    client_seconds: Mapping[int, float]
    server_seconds: float


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of the protocol.

    Attributes:
      total: The sum modulo 2^b of the vectors of `summed`, uint32 [length].
      summed: Clients whose vectors are in it.
      rounds: The four rounds, in order.
    """

    total: np.ndarray
    summed: tuple[int, ...]
    rounds: tuple[Round, ...]


def run(
    parameters: Parameters,
    vectors: Sequence[np.ndarray],
    drop_outs: Mapping[int, Collection[int]] | None = None,
    source: Source = primitives.OPERATING_SYSTEM,
) -> Outcome:
    """Sums the clients' vectors.

    Args:
      parameters: What all parties know.
      vectors: Of each client, uint32 [length], less than 2^b.
      drop_outs: By round of the protocol (`messages.ADVERTISE` to `UNMASK`), the
        clients that do not answer in it any more, nor later.
      source: Of the clients' random bytes, but for those in shares of secrets.

    Raises:
      ProtocolError: A party refuses to go on, as where too few clients are left.
      UserError: A vector is not of this form, or there are not as many as clients.
    """
    if len(vectors) != parameters.graph.clients:
        raise UserError(
            f'{len(vectors)} vectors for {parameters.graph.clients} clients'
        )
    clients: dict[int, Client] = {}
    server = Server(parameters)

    def advertise(i: int, _: bytes) -> bytes:
        clients[i] = Client(i, parameters, source)
        return clients[i].advertise()

    steps = (
        (advertise, server.directories),
        (lambda i, got: clients[i].share_keys(got), server.forward),
        (
            lambda i, got: clients[i].masked_input(vectors[i], got),
            server.request_shares,
        ),
        (lambda i, got: clients[i].unmask(got), server.total),
    )
    inbox: Mapping[int, bytes] = dict.fromkeys(range(len(vectors)), b'')
    rounds = []
    for number, (answer, collect) in enumerate(steps):
        left = (drop_outs or {}).get(number, ())
        asked = {i: message for i, message in inbox.items() if i not in left}
        received, seconds = _answers(asked, answer)
        start = time.process_time()
        result = collect(received.values())
        spent = time.process_time() - start
        inbox = result if number < messages.UNMASK else {}
        rounds.append(Round(received, inbox, seconds, spent))
    return Outcome(result, server.summed, tuple(rounds))


def _answers(
    asked: Mapping[int, bytes], answer: Callable[[int, bytes], bytes]
) -> tuple[dict[int, bytes], dict[int, float]]:
    """Returns what clients answer, and the processor time of each."""
    received, seconds = {}, {}
    for client, message in asked.items():
        start = time.process_time()
        received[client] = answer(client, message)
        seconds[client] = time.process_time() - start
    return received, seconds

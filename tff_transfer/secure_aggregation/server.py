"""The server: it follows the protocol, and checks what clients send."""

from collections.abc import Container, Iterable, Mapping

import numpy as np

from tff_transfer.secure_aggregation import masking, messages, packing, primitives
from tff_transfer.secure_aggregation.errors import (
    BelowThreshold,
    InconsistentShares,
    WrongMessage,
)
from tff_transfer.secure_aggregation.messages import Advertisement, Envelope
from tff_transfer.secure_aggregation.parameters import Parameters
from tff_transfer.secure_aggregation.primitives import BLOCK, KEY


class Server:
    """The server in one sum: a method for each round, in this order.

    Each takes the messages of the clients that answered, in any order, and returns one
    for each of them; the last one returns the sum.
    """

    def __init__(self, parameters: Parameters):
        """Takes what all parties know."""
        self._parameters = parameters
        self._keys: dict[int, Advertisement] = {}
        self._commitments: dict[int, bytes] = {}
        self._shared: dict[int, dict[int, bytes]] = {}
        self._sum = np.zeros(parameters.length, np.uint32)
        self._alive: set[int] = set()

    @property
    def summed(self) -> tuple[int, ...]:
        """The clients whose vectors are in the sum."""
        return tuple(sorted(self._alive))

    def directories(self, advertised: Iterable[bytes]) -> dict[int, bytes]:
        """Returns to each client its neighbours' public keys.

        Raises:
          WrongMessage: A message is not one of this round.
        """
        for client, body in self._read(messages.ADVERTISE, advertised).items():
            if len(body) != 2 * KEY + BLOCK:
                raise WrongMessage('a message is cut short')
            keys, self._commitments[client] = body[: 2 * KEY], body[2 * KEY :]
            self._keys[client] = Advertisement(keys[:KEY], keys[KEY:])
        found = {}
        for client in self._keys:
            around = self._around(client, self._keys)
            body = messages.pack_keys({other: self._keys[other] for other in around})
            found[client] = self._send(messages.ADVERTISE, client, body)
        return found

    def forward(self, shared: Iterable[bytes]) -> dict[int, bytes]:
        """Returns to each client what its neighbours sealed for it.

        Raises:
          WrongMessage: A message is not one of this round.
        """
        received = self._read(messages.SHARE, shared, self._keys)
        for client, body in received.items():
            sealed = messages.unpack_records(body, messages.SEALED)
            if set(sealed) != set(self._around(client, self._keys)):
                raise WrongMessage(f'client {client} has not sealed for its neighbours')
            self._shared[client] = sealed
        found = {}
        for client in self._shared:
            around = self._around(client, self._shared)
            body = {other: self._shared[other][client] for other in around}
            packed = messages.pack_records(body)
            found[client] = self._send(messages.SHARE, client, packed)
        return found

    def request_shares(self, masked: Iterable[bytes]) -> dict[int, bytes]:
        """Adds the masked vectors; returns whose masks each client is to help take off.

        Raises:
          WrongMessage: A message is not one of this round.
        """
        length, bits = self._parameters.length, self._parameters.bits
        for client, body in self._read(messages.MASK, masked, self._shared).items():
            if len(body) != packing.packed_bytes(length, bits):
                raise WrongMessage('a message is cut short')
            self._sum += packing.unpack(body, length, bits)
            self._alive.add(client)
        dropped, found = set(self._shared) - self._alive, {}
        for client in self._alive:
            body = messages.pack_request(
                self._around(client, self._alive), self._around(client, dropped)
            )
            found[client] = self._send(messages.MASK, client, body)
        return found

    def total(self, answers: Iterable[bytes]) -> np.ndarray:
        """Returns the sum of the vectors modulo 2^b, uint32 [length].

        Raises:
          BelowThreshold: Of a client fewer shares came than the threshold.
          InconsistentShares: Shares give another secret than a client committed to.
          WrongMessage: A message is not one of this round.
        """
        seeds: dict[int, dict[int, bytes]] = {}
        keys: dict[int, dict[int, bytes]] = {}
        read = self._read(messages.UNMASK, answers, self._alive)
        dropped = set(self._shared) - self._alive
        for client, body in read.items():
            for into, of, found in zip(
                (seeds, keys),
                (self._alive, dropped),
                messages.unpack_two(body, BLOCK, KEY),
                strict=True,
            ):
                if set(found) != set(self._around(client, of)):
                    raise WrongMessage(f'client {client} answers what was not asked')
                for other, share in found.items():
                    place = self._parameters.graph.neighbours[other].index(client)
                    into.setdefault(other, {})[place] = share
        if not self._alive:
            raise BelowThreshold('no client has sent a vector')
        for client in sorted(self._alive):
            self._take_off_own(client, seeds.get(client, {}))
        for client in sorted(dropped):
            self._take_off_pairs(client, keys.get(client, {}))
        return masking.reduce(self._sum, self._parameters)

    def _take_off_own(self, client: int, shares: Mapping[int, bytes]) -> None:
        session = self._parameters.session
        seed = self._combine(client, shares)
        if masking.commitment(seed, session, client) != self._commitments[client]:
            raise InconsistentShares(
                f'the shares of the seed of client {client} do not fit together'
            )
        key = masking.own_key(seed, session)
        self._sum -= primitives.mask(key, len(self._sum))

    def _take_off_pairs(self, client: int, shares: Mapping[int, bytes]) -> None:
        """Takes off what others added for a client that dropped out."""
        secret = self._combine(client, shares)
        if primitives.public_key(secret) != self._keys[client].masking:
            raise InconsistentShares(
                f'the shares of the key of client {client} do not fit together'
            )
        session = self._parameters.session
        keys = (
            (o, masking.pair_key(secret, self._keys[o].masking, session, client, o))
            for o in self._around(client, self._alive)
        )
        # Its own masks would be the negative of those that the others added.
        masking.add_pairs(self._sum, client, keys)

    def _combine(self, client: int, shares: Mapping[int, bytes]) -> bytes:
        threshold = self._parameters.threshold
        if len(shares) < threshold:
            raise BelowThreshold(
                f'{len(shares)} shares of a secret of client {client} came and'
                f' {threshold} are needed'
            )
        return primitives.combine(shares, threshold)

    def _around(self, client: int, among: Container[int]) -> list[int]:
        """Returns a client's neighbours among some."""
        return [o for o in self._parameters.graph.neighbours[client] if o in among]

    def _read(
        self, round_: int, received: Iterable[bytes], known: Iterable[int] | None = None
    ) -> dict[int, bytes]:
        if known is None:
            known = range(self._parameters.graph.clients)
        found = messages.group(received, round_, self._parameters.session)
        if strangers := set(found) - set(known):
            raise WrongMessage(
                f'{messages.name(min(strangers))} takes no part in'
                f' {messages.ROUNDS[round_]!r}'
            )
        return found

    def _send(self, round_: int, client: int, body: bytes) -> bytes:
        to_client = Envelope(self._parameters.session, round_, messages.SERVER, client)
        return to_client.header() + body

"""A client: honest, and wary of what the server sends it."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tff_transfer.errors import UserError
from tff_transfer.secure_aggregation import masking, messages, packing, primitives
from tff_transfer.secure_aggregation.errors import (
    BadKey,
    BelowThreshold,
    BothSharesAsked,
    WrongMessage,
)
from tff_transfer.secure_aggregation.messages import Advertisement, Envelope
from tff_transfer.secure_aggregation.parameters import Parameters
from tff_transfer.secure_aggregation.primitives import BLOCK, KEY, Source


@dataclasses.dataclass(frozen=True)
class _Secrets:
    """What a client draws: two key pairs, and the seed of its own mask."""

    sealing: bytes
    masking: bytes
    seed: bytes


class Client:
    """One client in one sum: a method for each round, in this order, each once.

    Whatever raises an error ends the client: it answers no later message.
    """

    def __init__(
        self,
        number: int,
        parameters: Parameters,
        source: Source = primitives.OPERATING_SYSTEM,
    ):
        """Draws the client's secrets.

        Args:
          number: The client's place in the graph.
          parameters: What all parties know.
          source: Of random bytes.
        """
        self._number, self._parameters, self._source = number, parameters, source
        self._neighbours = parameters.graph.neighbours[number]
        sealing, masking_ = (primitives.key_pair(source) for _ in range(2))
        self._secrets = _Secrets(sealing[0], masking_[0], source(BLOCK))
        self._public = Advertisement(sealing[1], masking_[1])
        self._keys: dict[int, Advertisement] = {}
        self._shares: dict[int, bytes] = {}
        self._next = messages.ADVERTISE

    def advertise(self) -> bytes:
        """Returns the public keys, and the commitment to the seed of the own mask.

        Raises:
          WrongMessage: The client has been asked before.
        """
        self._begin(messages.ADVERTISE)
        session = self._parameters.session
        told = masking.commitment(self._secrets.seed, session, self._number)
        body = self._public.sealing + self._public.masking + told
        return self._send(messages.ADVERTISE, body, messages.SHARE)

    def share_keys(self, directory: bytes) -> bytes:
        """Returns shares of the client's secrets, sealed for each neighbour.

        Args:
          directory: The server's message with the neighbours' public keys.

        Raises:
          BadKey: Two public keys are equal, or one is a point of low order.
          BelowThreshold: The message has fewer neighbours than the threshold.
          WrongMessage: It is not one for this client in this round.
        """
        self._begin(messages.SHARE)
        keys = messages.unpack_keys(self._read(messages.ADVERTISE, directory))
        self._check_neighbours(keys)
        all_keys = [
            key for it in (*keys.values(), self._public) for key in vars(it).values()
        ]
        if len(set(all_keys)) < len(all_keys):
            raise BadKey('two public keys are the same')
        self._keys = keys
        threshold, degree = self._parameters.threshold, len(self._neighbours)
        of_key = primitives.split(self._secrets.masking, threshold, degree)
        of_seed = primitives.split(self._secrets.seed, threshold, degree)
        sealed = {}
        for place, other in enumerate(self._neighbours):
            if other in keys:
                bound_to = self._envelope(self._number, other).header()
                key = self._sealing_key(other, bound_to)
                plain = of_key[place] + of_seed[place]
                sealed[other] = primitives.seal(key, plain, bound_to, self._source)
        return self._send(messages.SHARE, messages.pack_records(sealed), messages.MASK)

    def masked_input(self, vector: np.ndarray, forwarded: bytes) -> bytes:
        """Returns the client's vector under its masks.

        Args:
          vector: uint32 [length], less than 2^b each.
          forwarded: The server's message with what neighbours sealed for this client;
            those who are in it are those whose masks are added.

        Raises:
          BelowThreshold: The message has fewer neighbours than the threshold.
          TamperedShares: What a neighbour sealed has changed.
          UserError: The vector is not of this form.
          WrongMessage: It is not one for this client in this round.
        """
        self._begin(messages.MASK)
        body = self._read(messages.SHARE, forwarded)
        sealed = messages.unpack_records(body, messages.SEALED)
        self._check_neighbours(sealed)
        if not set(sealed) <= set(self._keys):
            raise WrongMessage('shares are of a client whose keys were not sent')
        self._shares = {other: self._open(other, it) for other, it in sealed.items()}
        masked = self._checked(vector).copy()
        session = self._parameters.session
        own = masking.own_key(self._secrets.seed, session)
        masked += primitives.mask(own, len(masked))
        masking.add_pairs(
            masked, self._number, ((o, self._mask_key(o)) for o in sealed)
        )
        bits = self._parameters.bits
        packed = packing.pack(masking.reduce(masked, self._parameters), bits)
        return self._send(messages.MASK, packed, messages.UNMASK)

    def unmask(self, request: bytes) -> bytes:
        """Returns shares of what takes masks off the sum.

        Of a neighbour whose vector is in the sum that is the seed of its own mask, of
        one that dropped out after it had shared its keys its secret key; never both.

        Args:
          request: The server's message with who is which.

        Raises:
          BelowThreshold: Fewer neighbours than the threshold are in the sum.
          BothSharesAsked: A neighbour is said to be both.
          WrongMessage: It is not one for this client in this round, or asks again.
        """
        if self._next > messages.UNMASK:
            raise BothSharesAsked('the server asks for shares a second time')
        self._begin(messages.UNMASK)
        body = self._read(messages.MASK, request)
        alive, dropped = messages.unpack_two(body, 0, 0)
        if both := set(alive) & set(dropped):
            raise BothSharesAsked(
                f'the server asks for both secrets of client {min(both)}'
            )
        self._check_neighbours(alive)
        if not {*alive, *dropped} <= set(self._shares):
            raise WrongMessage('shares are asked of a client that sent none')
        seeds = {other: self._shares[other][KEY:] for other in alive}
        keys = {other: self._shares[other][:KEY] for other in dropped}
        answer = messages.pack_two(
            messages.pack_records(seeds), len(seeds), messages.pack_records(keys)
        )
        return self._send(messages.UNMASK, answer, messages.UNMASK + 1)

    def _begin(self, round_: int) -> None:
        """Checks that it is this round's turn; whatever fails in it ends the client."""
        if self._next != round_:
            raise WrongMessage(
                f'client {self._number} is asked for {messages.ROUNDS[round_]!r} out'
                ' of turn'
            )
        self._next = -1

    def _send(self, round_: int, body: bytes, next_round: int) -> bytes:
        self._next = next_round
        to_server = Envelope(
            self._parameters.session, round_, self._number, messages.SERVER
        )
        return to_server.header() + body

    def _read(self, round_: int, message: bytes) -> bytes:
        from_server = Envelope(
            self._parameters.session, round_, messages.SERVER, self._number
        )
        return messages.content(message, from_server)

    def _check_neighbours(self, found: Mapping[int, object]) -> None:
        if strangers := set(found) - set(self._neighbours):
            raise WrongMessage(
                f'client {min(strangers)} is no neighbour of client {self._number}'
            )
        if len(found) < self._parameters.threshold:
            raise BelowThreshold(
                f'client {self._number} has {len(found)} neighbours left and needs'
                f' {self._parameters.threshold}'
            )

    def _envelope(self, sender: int, receiver: int) -> Envelope:
        return Envelope(self._parameters.session, messages.SHARE, sender, receiver)

    def _sealing_key(self, other: int, bound_to: bytes) -> bytes:
        """Returns the key of one direction between two clients."""
        agreed = primitives.agree(self._secrets.sealing, self._keys[other].sealing)
        return primitives.derive(agreed, self._parameters.session, b'seal' + bound_to)

    def _open(self, other: int, sealed: bytes) -> bytes:
        bound_to = self._envelope(other, self._number).header()
        return primitives.open_sealed(
            self._sealing_key(other, bound_to), sealed, bound_to
        )

    def _mask_key(self, other: int) -> bytes:
        return masking.pair_key(
            self._secrets.masking,
            self._keys[other].masking,
            self._parameters.session,
            self._number,
            other,
        )

    def _checked(self, vector: np.ndarray) -> np.ndarray:
        length, bits = self._parameters.length, self._parameters.bits
        if vector.dtype != np.uint32 or vector.shape != (length,):
            raise UserError(
                f'a vector is uint32 [{length}], not {vector.dtype} {vector.shape}'
            )
        if int(vector.max()) >> bits:
            raise UserError(f'a number of the vector has more than {bits} bits')
        return vector

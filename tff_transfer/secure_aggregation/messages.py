"""The messages of the protocol as bytes.

Each begins with a header: the session (16 bytes), the round (1), sender and receiver (4
each); numbers are little-endian. What the server answers in a round has that round's
number. After the header stand records of one size, so that a message has a length for
each number of records, and any other is refused.
"""

import dataclasses
import struct
from collections.abc import Iterable, Mapping, Sequence

from tff_transfer.secure_aggregation.errors import WrongMessage
from tff_transfer.secure_aggregation.parameters import SESSION
from tff_transfer.secure_aggregation.primitives import BLOCK, KEY, NONCE, TAG

# The rounds of the protocol.
ADVERTISE, SHARE, MASK, UNMASK = range(4)
ROUNDS = ('advertise keys', 'share keys', 'masked input', 'unmasking')
SERVER = 2**32 - 1

_HEADER = struct.Struct(f'<{SESSION}sBII')
_ID = struct.Struct('<I')
HEADER, ID = _HEADER.size, _ID.size
# Both shares of a client's secrets: of its secret key, and of its mask's seed.
SHARES = KEY + BLOCK
SEALED = NONCE + SHARES + TAG


@dataclasses.dataclass(frozen=True)
class Envelope:
    """Where a message belongs.

    Attributes:
      session: That of the sum, 16 bytes.
      round: Of the protocol, one of `ADVERTISE` to `UNMASK`.
      sender: A client's number, or `SERVER`.
      receiver: The same.
    """

    session: bytes
    round: int
    sender: int
    receiver: int

    def header(self) -> bytes:
        """Returns it as 25 bytes."""
        return _HEADER.pack(self.session, self.round, self.sender, self.receiver)


def content(message: bytes, expected: Envelope) -> bytes:
    """Returns what stands after the header.

    Raises:
      WrongMessage: The header is not the expected one.
    """
    header = expected.header()
    if message[:HEADER] != header:
        raise WrongMessage(
            f'a message is not of this session, {ROUNDS[expected.round]!r}, and for'
            f' {name(expected.receiver)} from {name(expected.sender)}'
        )
    return message[HEADER:]


def sender_of(message: bytes) -> int:
    """Returns who a message says that it is from.

    Raises:
      WrongMessage: It is shorter than a header.
    """
    if len(message) < HEADER:
        raise WrongMessage('a message is cut short')
    return _HEADER.unpack_from(message)[2]


def group(messages: Iterable[bytes], round_: int, session: bytes) -> dict[int, bytes]:
    """Returns the contents of clients' messages to the server, by client.

    Args:
      messages: All of one round.
      round_: Which.
      session: That of the sum.

    Raises:
      WrongMessage: One is of another round or session, or a client has two.
    """
    found: dict[int, bytes] = {}
    for message in messages:
        sender = sender_of(message)
        if sender in found:
            raise WrongMessage(f'{name(sender)} has sent two messages in a round')
        found[sender] = content(message, Envelope(session, round_, sender, SERVER))
    return found


def name(party: int) -> str:
    """Returns what an error calls a party."""
    return 'the server' if party == SERVER else f'client {party}'


@dataclasses.dataclass(frozen=True)
class Advertisement:
    """A client's public keys.

    Attributes:
      sealing: For what clients seal for each other, 32 bytes.
      masking: For the masks that two clients share, 32 bytes.
    """

    sealing: bytes
    masking: bytes


def pack_records(records: Mapping[int, bytes]) -> bytes:
    """Returns records of one size, each after the client that it is about."""
    return b''.join(_ID.pack(of) + record for of, record in records.items())


def unpack_records(data: bytes, size: int) -> dict[int, bytes]:
    """Returns the records by client.

    Args:
      data: What `pack_records` gave.
      size: Bytes of each record.

    Raises:
      WrongMessage: The message has another length, or two records of one client.
    """
    step = ID + size
    if len(data) % step:
        raise WrongMessage('a message is cut short')
    starts = range(0, len(data), step)
    found = {_ID.unpack_from(data, at)[0]: data[at + ID : at + step] for at in starts}
    if len(found) != len(starts):
        raise WrongMessage('a message has two records of one client')
    return found


def pack_two(first: bytes, records: int, second: bytes) -> bytes:
    """Returns two kinds of records in one, with the number of the first ones."""
    return _ID.pack(records) + first + second


def unpack_two(
    data: bytes, first: int, second: int
) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Returns what `pack_two` was given, as records by client.

    Args:
      data: The content of a message.
      first: Bytes of each record of the first kind.
      second: Bytes of each of the second.

    Raises:
      WrongMessage: The message has another length, or two records of one client.
    """
    if len(data) < ID:
        raise WrongMessage('a message is cut short')
    end = ID + _ID.unpack_from(data)[0] * (ID + first)
    if end > len(data):
        raise WrongMessage('a message is cut short')
    return unpack_records(data[ID:end], first), unpack_records(data[end:], second)


def pack_keys(keys: Mapping[int, Advertisement]) -> bytes:
    """Returns the public keys of clients."""
    return pack_records({of: it.sealing + it.masking for of, it in keys.items()})


def unpack_keys(data: bytes) -> dict[int, Advertisement]:
    """Returns the public keys by client.

    Raises:
      WrongMessage: The message has another length, or two records of one client.
    """
    found = unpack_records(data, 2 * KEY)
    return {of: Advertisement(it[:KEY], it[KEY:]) for of, it in found.items()}


def pack_request(alive: Sequence[int], dropped: Sequence[int]) -> bytes:
    """Returns whose mask's seed and whose secret key the server asks shares of."""
    return pack_two(
        pack_records(dict.fromkeys(alive, b'')),
        len(alive),
        pack_records(dict.fromkeys(dropped, b'')),
    )

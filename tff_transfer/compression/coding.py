"""The bytes of a message, packed or entropy coded, and the message of the bytes.

In a simulation nothing is sent; these are what `messages` counts. Both sides know the
shapes and alphabets of a message, which are given as a message like it. The coder is
a range coder (Martin 1979), constriction's; its model of symbols is their counts,
which go before them in Elias's gamma code (Elias 1975, "Universal codeword sets").
"""

import math
from collections.abc import Iterator

import constriction
import numpy as np
import tensorflow as tf

from tff_transfer.compression.messages import (
    LENGTH,
    MARK,
    Message,
    Positions,
    Symbols,
    is_coded,
    packed_bits,
    width,
)

_queue, _model = constriction.stream.queue, constriction.stream.model


def pack(message: Message) -> bytes:
    """Returns a message of arrays as bytes, each symbol in as many bits."""
    return b''.join(map(_pack, message.values()))


def unpack(data: bytes, like: Message) -> dict:
    """Returns the message that was packed.

    Args:
      data: What `pack` gave.
      like: A message of the same shapes and alphabets.
    """
    made, start = {}, 0
    for name, field in like.items():
        end = start - (-packed_bits(field) // 8)
        made[name] = _unpack(data[start:end], field)
        start = end
    return made


def encode(message: Message) -> bytes:
    """Returns a message of arrays as bytes, entropy coded where that is shorter."""
    parts = []
    for field in message.values():
        packed = _pack(field)
        if is_coded(field):
            coded = _encode(field)
            shorter = len(coded) < len(packed)
            parts.append(bytes([shorter]))
            packed = coded if shorter else packed
        parts.append(packed)
    return b''.join(parts)


def decode(data: bytes, like: Message) -> dict:
    """Returns the message that was encoded.

    Args:
      data: What `encode` gave.
      like: A message of the same shapes and alphabets.
    """
    made = {}
    for name, field in like.items():
        coded = is_coded(field) and data[0]
        data = data[MARK * is_coded(field) :]
        if coded:
            made[name], data = _decode(data, field)
            continue
        end = -(-packed_bits(field) // 8)
        made[name], data = _unpack(data[:end], field), data[end:]
    return made


def _pack(field) -> bytes:
    if isinstance(field, Symbols):
        return _bits(field.values, width(field.size))
    if isinstance(field, Positions):
        if _by_mask(field):
            return _bits(_mask(field), 1)
        return _bits(field.values, width(field.size))
    return np.asarray(field).tobytes()


def _unpack(data: bytes, like):
    if isinstance(like, Symbols):
        values = _from_bits(data, width(like.size), like.values.shape[0])
        return like._replace(values=values)
    if isinstance(like, Positions):
        if _by_mask(like):
            mask = _from_bits(data, 1, like.size)
            return like._replace(values=_positions(mask))
        values = _from_bits(data, width(like.size), like.values.shape[0])
        return like._replace(values=values)
    dtype = tf.as_dtype(like.dtype).as_numpy_dtype
    return np.frombuffer(data, dtype).reshape(like.shape)


def _by_mask(field: Positions) -> bool:
    return width(field.size) * field.values.shape[0] > field.size


def _mask(field: Positions) -> np.ndarray:
    mask = np.zeros(field.size, np.int32)
    mask[np.asarray(field.values)] = 1
    return mask


def _positions(mask: np.ndarray) -> np.ndarray:
    return np.flatnonzero(mask).astype(np.int32)


def _bits(values, each: int) -> bytes:
    bits = (np.asarray(values, np.int64)[:, None] >> np.arange(each)) & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def _from_bits(data: bytes, each: int, count: int) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=each * count)
    values = bits.reshape(count, each).astype(np.int64) << np.arange(each)
    return values.sum(axis=1).astype(np.int32)


def _encode(field) -> bytes:
    """Returns the length of the coder's words, the table of symbols, and the words."""
    if isinstance(field, Symbols):
        values = np.asarray(field.values, np.int32)
        counts = np.bincount(values, minlength=field.size)
        table = np.frombuffer(''.join(map(_gamma, counts)).encode(), np.uint8) - 48
        table = np.packbits(table).tobytes()
    else:
        values, table = _mask(field), b''
        counts = np.bincount(values, minlength=2)
    words = b''
    if np.count_nonzero(counts) > 1:  # Else there is nothing to tell.
        coder = _queue.RangeEncoder()
        coder.encode(values, _model.Categorical(counts / counts.sum(), perfect=False))
        words = coder.get_compressed().astype('<u4').tobytes()
    return len(words).to_bytes(LENGTH, 'little') + table + words


def _decode(data: bytes, like) -> tuple[Symbols | Positions, bytes]:
    """Returns a field of the bytes at the start of some, and the rest of them."""
    length, data = int.from_bytes(data[:LENGTH], 'little'), data[LENGTH:]
    symbols, count = isinstance(like, Symbols), like.values.shape[0]
    if symbols:
        bits = np.unpackbits(np.frombuffer(data, np.uint8)).tolist()
        places = iter(range(len(bits)))
        counts = np.array([_from_gamma(bits, places) for _ in range(like.size)])
        data = data[math.ceil(next(places, len(bits)) / 8) :]
    else:
        counts, count = np.array([like.size - count, count]), like.size
    if np.count_nonzero(counts) > 1:
        coder = _queue.RangeDecoder(np.frombuffer(data[:length], '<u4'))
        model = _model.Categorical(counts / counts.sum(), perfect=False)
        values = coder.decode(model, count)
    else:
        values = np.full(count, np.argmax(counts), np.int32)
    found = values if symbols else _positions(values)
    return like._replace(values=found), data[length:]


def _gamma(count: int) -> str:
    """Returns Elias's gamma code of one more than a count."""
    digits = f'{count + 1:b}'
    return '0' * (len(digits) - 1) + digits


def _from_gamma(bits: list[int], places: Iterator[int]) -> int:
    zeros = 0
    while not bits[next(places)]:
        zeros += 1
    number = 1
    for _ in range(zeros):
        number = 2 * number + bits[next(places)]
    return number - 1

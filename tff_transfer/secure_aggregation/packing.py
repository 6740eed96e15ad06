"""Integers of b bits in as few bytes as they need."""

import numpy as np

_WIDTH = 32


def packed_bytes(length: int, bits: int) -> int:
    """Returns how many bytes a vector takes."""
    return -(-length * bits // 8)


def pack(values: np.ndarray, bits: int) -> bytes:
    """Returns a vector as bytes, the highest bit of each value first.

    Args:
      values: uint32 [length], less than 2^bits each.
      bits: From 1 to 32.
    """
    as_bytes = values.astype('>u4').view(np.uint8).reshape(-1, 4)
    if bits == _WIDTH:
        return as_bytes.tobytes()
    return np.packbits(np.unpackbits(as_bytes, axis=1)[:, _WIDTH - bits :]).tobytes()


def unpack(packed: bytes, length: int, bits: int) -> np.ndarray:
    """Returns the uint32 [length] that `pack` was given."""
    data = np.frombuffer(packed, np.uint8)
    if bits < _WIDTH:
        low = np.unpackbits(data, count=length * bits).reshape(length, bits)
        padded = np.zeros((length, _WIDTH), np.uint8)
        padded[:, _WIDTH - bits :] = low
        data = np.packbits(padded)
    return data.view('>u4').astype(np.uint32)

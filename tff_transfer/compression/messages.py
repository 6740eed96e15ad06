"""What a scheme sends: named fields, and how many bytes these take.

Packed, each symbol takes the same whole number of bits. Coded, symbols go through an
entropy coder with a table of their counts, where that is shorter. `coding` makes the
bytes; these functions count them, in a graph, without making any.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf

# Alphabets that a table of counts is for; larger ones are only packed.
MOST_CODED = 2**16
# Bytes before a coded field: whether it is coded, and how long the coder's words are.
MARK, LENGTH = 1, 4
_WORD = 32


class Symbols(NamedTuple):
    """Symbols of an alphabet.

    Attributes:
      values: The symbols, from 0, int32 [n].
      size: How many different ones there may be.
    """

    values: Any
    size: int


class Positions(NamedTuple):
    """Some of the positions in a vector, each once.

    Attributes:
      values: The positions in ascending order, int32 [k].
      size: The vector's length.
    """

    values: Any
    size: int


# By name: `Symbols`, `Positions`, or a tensor that is sent as it is.
Message = Mapping[str, Symbols | Positions | Any]


def width(size: int) -> int:
    """Returns how many bits tell one symbol of an alphabet of a size."""
    return (size - 1).bit_length()


def packed_bits(field) -> int:
    """Returns how many bits a field takes packed, by its shape alone."""
    if isinstance(field, Symbols):
        return width(field.size) * field.values.shape[0]
    if isinstance(field, Positions):  # A list, or one bit for each place.
        return min(width(field.size) * field.values.shape[0], field.size)
    return 8 * tf.as_dtype(field.dtype).size * math.prod(field.shape)


def packed_bytes(message: Message) -> int:
    """Returns how many bytes a message takes packed, each field in whole ones."""
    return sum(-(-packed_bits(field) // 8) for field in message.values())


def coded_bytes(message: Message):
    """Returns about how many bytes an entropy coder makes of a message, int64 [].

    Of symbols: the bits of their empirical entropy and of the table of their counts
    (Elias's gamma code, `coding`), of positions those of their number among all
    places. A field that would be longer than packed stays packed.
    """
    total = tf.constant(0, tf.int64)
    for field in message.values():
        packed = -(-packed_bits(field) // 8)
        if not is_coded(field):
            total += packed
            continue
        if isinstance(field, Symbols):
            table, entropy = _of_symbols(field)
        else:
            table, entropy = 0, tf.constant(_of_positions(field))
        words = tf.cast(tf.math.ceil(entropy / _WORD), tf.int64) * (_WORD // 8)
        coded = LENGTH + tf.cast(-(-table // 8), tf.int64) + words
        total += MARK + tf.minimum(tf.cast(packed, tf.int64), coded)
    return total


def is_coded(field) -> bool:
    """Returns whether a field goes through the entropy coder, if that is shorter."""
    if isinstance(field, Symbols):
        return field.size <= MOST_CODED
    return isinstance(field, Positions)


def _of_symbols(field: Symbols):
    """Returns the bits of the table, int32 [], and of all symbols, float32 []."""
    ones = tf.ones_like(field.values)
    counts = tf.math.unsorted_segment_sum(ones, field.values, field.size)
    # The exponent of a float is the logarithm of an integer, rounded down.
    exponents = tf.bitcast(tf.cast(counts + 1, tf.float32), tf.int32) // 2**23 - 127
    table = tf.reduce_sum(2 * exponents + 1)
    counts = tf.cast(counts, tf.float32)
    shares = counts / max(field.values.shape[0], 1)
    entropy = -tf.reduce_sum(tf.math.xlogy(counts, shares)) / math.log(2)
    return table, entropy


def _of_positions(field: Positions) -> float:
    """Returns the bits of a mask, each place of which is chosen by the same chance."""
    count, size = field.values.shape[0], field.size
    if count in (0, size):
        return 0.0
    share = count / size
    rest = (size - count) * math.log2(1 - share)
    return -(count * math.log2(share) + rest)

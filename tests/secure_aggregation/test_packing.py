"""Integers of b bits as bytes."""

import numpy as np
import pytest

from tff_transfer.secure_aggregation import packing


def test_by_hand():
    # 101 010 111 -> 1010 1011 1000 0000.
    assert packing.pack(np.array([5, 2, 7], np.uint32), 3) == bytes([0b10101011, 0x80])
    assert packing.pack(np.array([1, 2**32 - 2], np.uint32), 32) == bytes.fromhex(
        '00000001fffffffe'
    )


@pytest.mark.parametrize('bits', range(1, 33))
def test_round_trip(bits):
    for length in (1, 2, 7, 8, 1001):
        draw = np.random.default_rng(bits)
        values = draw.integers(0, 2**bits, length, dtype=np.uint32)
        values[0] = 2**bits - 1
        packed = packing.pack(values, bits)
        # The digits in base 2, one after another, as Python writes them.
        digits = ''.join(f'{value:0{bits}b}' for value in values.tolist())
        assert len(packed) == packing.packed_bytes(length, bits) == -(-len(digits) // 8)
        padded = digits.ljust(8 * len(packed), '0')
        assert int.from_bytes(packed, 'big') == int(padded, 2)
        again = packing.unpack(packed, length, bits)
        assert again.dtype == np.uint32
        np.testing.assert_array_equal(again, values)

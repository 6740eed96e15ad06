"""The bytes of each scheme's messages, real ones beside those that are counted."""

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer.compression import coding, messages, registry
from tff_transfer.compression.messages import Positions, Symbols

SHAPES = ((100, 62), (62,))
NAMES = registry.UP.NAMES[1:]


@pytest.fixture(scope='module')
def made():
    """A message of each scheme, of an update with few large numbers."""
    count = sum(np.prod(shape) for shape in SHAPES)
    vector = np.random.default_rng(0).laplace(size=count).astype(np.float32) ** 3
    found = {}
    for name in NAMES:
        scheme = registry.UP.options(name)().build(SHAPES)
        message, _ = scheme.encode(tf.constant(vector), scheme.state)
        found[name] = scheme, message
    return found


def as_arrays(message):
    return tf.nest.map_structure(
        lambda leaf: leaf if isinstance(leaf, int) else np.asarray(leaf), dict(message)
    )


def assert_same(found, expected):
    tf.nest.assert_same_structure(found, expected)
    for ours, theirs in zip(
        tf.nest.flatten(found), tf.nest.flatten(expected), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize('name', NAMES)
def test_bytes_hold_the_message_and_are_as_many_as_counted(name, made):
    scheme, message = made[name]
    arrays = as_arrays(message)
    packed = coding.pack(arrays)
    assert len(packed) == messages.packed_bytes(message)
    assert_same(coding.unpack(packed, arrays), arrays)
    coded = coding.encode(arrays)
    found = coding.decode(coded, arrays)
    assert_same(found, arrays)
    # The coder ends within two words of the entropy, or a thousandth of it.
    counted = int(messages.coded_bytes(message))
    assert abs(len(coded) - counted) <= max(8, counted // 1000)
    # The message alone is what is decoded.
    np.testing.assert_array_equal(scheme.decode(found), scheme.decode(message))


@pytest.mark.parametrize(
    ('name', 'bits'),
    [('uniform', 8), ('efsign', 1), ('terngrad', 2), ('float16', 16)],
)
def test_bits_of_a_number(name, bits, made):
    _, message = made[name]
    count = sum(np.prod(shape) for shape in SHAPES)
    assert 0 <= messages.packed_bytes(message) - bits * count / 8 <= 17


def test_entropy_is_that_of_the_shares():
    values = np.repeat([0, 1, 3], [500, 250, 250]).astype(np.int32)
    field = {'of': Symbols(tf.constant(values), 4)}
    # 1.5 bits each, and 17 + 15 + 1 + 15 of the table.
    assert messages.packed_bytes(field) == 250
    assert int(messages.coded_bytes(field)) == 1 + 4 + 6 + 4 * -(-1500 // 32)
    assert len(coding.encode(as_arrays(field))) <= 1 + 4 + 6 + 192 + 4


@pytest.mark.parametrize(
    'field',
    [
        Symbols(np.zeros(1000, np.int32), 3),
        Symbols(np.array([2], np.int32), 3),
        Symbols(np.arange(300, dtype=np.int32), 300),
        Symbols(np.array([70_000, 3], np.int32), 2**17),
        Positions(np.arange(50, dtype=np.int32), 50),
        Positions(np.array([7], np.int32), 1000),
        Positions(np.arange(0, 1000, 3, dtype=np.int32), 1000),
        Positions(np.arange(0, 100_000, 100, dtype=np.int32), 100_000),
    ],
)
def test_each_kind_of_field_comes_back(field):
    message = {'first': field, 'second': np.float32([1.5, -2])}
    packed, coded = coding.pack(message), coding.encode(message)
    assert_same(coding.unpack(packed, message), message)
    assert_same(coding.decode(coded, message), message)
    assert len(packed) == messages.packed_bytes(message)
    assert abs(len(coded) - int(messages.coded_bytes(message))) <= 8
    assert len(coded) <= len(packed) + 1

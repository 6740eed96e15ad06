"""What travels between a driver and its actors arrives as it was."""

import pickle

import numpy as np
import tensorflow as tf

from tff_transfer.runtime.cluster.packing import Packed

VALUES = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.array(0.5),
    np.arange(20, dtype=np.int64)[::3],
    np.zeros([0, 4], np.float16),
    np.array([True, False]),
    np.arange(2**15, dtype=np.float32),  # It is large: 128 KiB.
    np.array([b'a', b'bc'], object),
    tf.TensorSpec([3], tf.float32),
]


def test_small_arrays_travel_as_one_buffer():
    buffers = []
    sent = pickle.dumps(Packed(VALUES), protocol=5, buffer_callback=buffers.append)
    assert [len(buffer.raw()) for buffer in buffers] == [4 * 64, 2**17]
    found = pickle.loads(sent, buffers=[bytes(buffer) for buffer in buffers])
    assert len(found) == len(VALUES) and found[-1] == VALUES[-1]
    for value, array in zip(VALUES[:-1], found[:-1], strict=True):
        np.testing.assert_array_equal(value, array, strict=True)


def test_nothing_travels_as_nothing():
    assert pickle.loads(pickle.dumps(Packed([]))) == []
    (empty,) = pickle.loads(pickle.dumps(Packed([np.zeros([0, 2], np.int32)])))
    np.testing.assert_array_equal(empty, np.zeros([0, 2], np.int32), strict=True)

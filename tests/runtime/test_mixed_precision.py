"""Products in bfloat16, sums and weights in float32, worked out by hand and NumPy."""

import collections

import bfloat16
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import runtime
from tff_transfer.errors import UserError

# Numbers from 1 to 255 plus this are the numbers in bfloat16, which has 8 bits.
LOST = 2.0**-10


def numbers(*shape):
    """Returns 1, 2, 1, 2, ... plus what bfloat16 loses."""
    return (np.arange(np.prod(shape)) % 2 + 1 + LOST).reshape(shape).astype(np.float32)


def conv(x, w):
    return tf.nn.conv2d(x, w, 1, 'SAME')


def depthwise(x, w):
    return tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], 'SAME')


def conv3d(x, w):
    return tf.nn.conv3d(x, w, [1, 1, 1, 1, 1], 'SAME')


@pytest.mark.parametrize(
    ('product', 'x', 'w'),
    [
        (tf.matmul, numbers(3, 5), numbers(5, 2)),
        (tf.matmul, numbers(2, 3, 5), numbers(2, 5, 2)),
        (lambda x, w: tf.einsum('bij,jk->bik', x, w), numbers(2, 3, 5), numbers(5, 2)),
        (conv, numbers(1, 4, 5, 2), numbers(2, 2, 2, 3)),
        (depthwise, numbers(1, 4, 5, 2), numbers(2, 2, 2, 1)),
        (conv3d, numbers(1, 2, 3, 3, 2), numbers(2, 1, 2, 2, 1)),
    ],
)
def test_products_and_their_gradients(product, x, w):
    """All are whole numbers below 256, so that bfloat16 holds the results."""

    def run(x, w):
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = product(x, w)
        return y, *tape.gradient(y, [x, w])

    comp = tff.tensorflow.computation(
        run, [tff.TensorType(np.float32, x.shape), tff.TensorType(np.float32, w.shape)]
    )

    @tff.federated_computation(
        *(tff.FederatedType(t, tff.CLIENTS) for t in comp.type_signature.parameter)
    )
    def at_clients(x, w):
        return tff.federated_map(comp, (x, w))

    rounded = [
        tensor.numpy() for tensor in run(*map(tf.constant, (x - LOST, w - LOST)))
    ]
    assert max(np.max(r) for r in rounded) < 256
    with runtime.use_compiled(compute_dtype='bfloat16'):
        (found,) = at_clients([x], [w])
    for a, b in zip(found, rounded, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b)
    with runtime.use_compiled():
        (exact,) = at_clients([x], [w])
    assert all(np.any(a != b) for a, b in zip(exact, rounded, strict=True))


MATRIX = tff.TensorType(np.float32, [2, 2])


def test_functions_that_return_products():
    """A function whose gradient is taken also returns what that needs."""

    @tf.function
    def half_squares(x):
        products = [tf.matmul(x, tf.eye(2)) for _ in range(30)]
        return tf.add_n([tf.reduce_sum(p * p) for p in products]) / 2

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = half_squares(x)
        return tape.gradient(y, x)

    comp = tff.tensorflow.computation(gradient, MATRIX)
    federated = tff.federated_computation(
        lambda x: tff.federated_map(comp, x), tff.FederatedType(MATRIX, tff.CLIENTS)
    )
    ones = np.full([2, 2], 1 + LOST, np.float32)
    with runtime.use_compiled(compute_dtype='bfloat16'):
        (found,) = federated([ones])
    np.testing.assert_array_equal(found, np.full([2, 2], 30))


def test_the_server_and_sums_stay_in_float32():
    square = tff.tensorflow.computation(lambda x: tf.matmul(x, x), MATRIX)

    @tff.federated_computation(
        tff.FederatedType(MATRIX, tff.SERVER), tff.FederatedType(MATRIX, tff.CLIENTS)
    )
    def comp(at_server, at_clients):
        return (
            tff.federated_map(square, at_server),
            tff.federated_map(square, at_clients),
            tff.federated_sum(at_clients),
        )

    ones = np.full([2, 2], 1 + LOST, np.float32)
    with runtime.use_compiled(compute_dtype='bfloat16'):
        server, clients, total = comp(ones, [ones, ones])
    np.testing.assert_array_equal(server, ones @ ones)
    np.testing.assert_array_equal(clients, np.full([2, 2, 2], 2))
    np.testing.assert_array_equal(total, 2 * ones)


WEIGHTS = tff.TensorType(np.float32, [8, 1])
BATCHES = tff.SequenceType(
    collections.OrderedDict(
        x=tff.TensorType(np.float32, [None, 8]), y=tff.TensorType(np.float32, [None, 1])
    )
)
RATE = 0.05


@tff.tensorflow.computation(WEIGHTS, BATCHES)
def train(weights, data):
    def step(weights, batch):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            error = tf.matmul(batch['x'], weights) - batch['y']
            loss = tf.reduce_sum(error**2) / 2
        return weights - RATE * tape.gradient(loss, weights)

    return data.reduce(weights, step)


def test_training_keeps_weights_in_float32():
    draw = np.random.default_rng(0)
    x = draw.normal(size=(12, 3, 8)).astype(np.float32)
    y = (x @ draw.normal(size=(8, 1)) + 1).astype(np.float32)
    start = draw.normal(size=(8, 1)).astype(np.float32)

    def by_numpy(short, of_product):
        weights = start
        for a, b in zip(x, y, strict=True):
            error = of_product(short(a) @ short(weights)) - b
            product = of_product(short(a).T @ short(error))
            weights = weights - np.float32(RATE) * product
        return weights

    @tff.federated_computation(
        tff.FederatedType(WEIGHTS, tff.SERVER),
        tff.FederatedType(BATCHES, tff.CLIENTS),
    )
    def comp(weights, data):
        pair = tff.federated_zip((tff.federated_broadcast(weights), data))
        return tff.federated_map(train, pair)

    data = tf.data.Dataset.from_tensor_slices(collections.OrderedDict(x=x, y=y))
    with runtime.use_compiled(compute_dtype='bfloat16'):
        (found,) = comp(start, [data])
    expected = by_numpy(bfloat16.nearest, bfloat16.of_product)
    exact = by_numpy(lambda a: a, lambda a: a)
    # Sums in another order may round to the next number of 8 bits, rarely.
    assert np.abs(found - expected).max() < 0.2 * np.abs(exact - expected).max()
    # Weights that were rounded too would have no more than 8 bits.
    assert np.any(found != bfloat16.nearest(found))


def test_what_is_refused():
    with pytest.raises(UserError, match='compute_dtype'):
        runtime.use_compiled(compute_dtype='float64')
    with pytest.raises(UserError, match=r'float16.*bfloat16'):
        runtime.use_compiled(compute_dtype='float16', devices=['/CPU:0'])

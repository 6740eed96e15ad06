"""Computations of `tff.jax`, which TFF's own worker cannot run, against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import runtime
from tff_transfer.errors import UserError

MATRIX = tff.TensorType(np.float32, [3, 3])
A = np.array([[4, 1, 0], [1, 5, 2], [0, 2, 6]], np.float32)


@pytest.fixture(autouse=True)
def context():
    with runtime.use_compiled(threads=2) as context:
        yield context


def test_arguments_and_results_keep_their_places():
    @tff.jax.computation(np.float32, tff.TensorType(np.float32, [2]), np.int32)
    def comp(a, b, unused):
        return b * a, {'z': a - jnp.sum(b), 'n': jnp.int32(7)}

    product, rest = comp(3.0, np.array([1, 2], np.float32), 5)
    np.testing.assert_array_equal(product, [3, 6])
    assert rest['z'] == 0.0 and rest['n'] == 7
    assert rest['n'].dtype == np.int32


@pytest.mark.parametrize(
    ('function', 'expected'),
    [
        (lambda a: jnp.max(a @ a, axis=1), (A @ A).max(1)),
        (lambda a: jax.lax.scan(lambda c, x: (c + x, c), jnp.zeros(3), a)[0], A.sum(0)),
        # These call jaxlib's functions, which TensorFlow does not have.
        (jnp.linalg.inv, np.linalg.inv(A)),
        (jnp.linalg.cholesky, np.linalg.cholesky(A)),
        (lambda a: jnp.real(jnp.fft.fft(a)), np.fft.fft(A).real),
    ],
)
def test_values(function, expected):
    comp = tff.jax.computation(lambda a: function(a), MATRIX)
    np.testing.assert_allclose(comp(A), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('solve', [lambda a, b: a * b, jnp.linalg.solve])
def test_clients_with_tensorflow_between(solve):
    @tff.jax.computation(MATRIX, tff.TensorType(np.float32, [3]))
    def local(a, b):
        return solve(a, b)

    largest = tff.tensorflow.computation(
        lambda x: tf.reduce_max(x), local.type_signature.result
    )

    @tff.federated_computation(
        tff.FederatedType(MATRIX, tff.SERVER),
        tff.FederatedType(tff.TensorType(np.float32, [3]), tff.CLIENTS),
    )
    def comp(a, b):
        solved = tff.federated_map(local, (tff.federated_broadcast(a), b))
        return solved, tff.federated_mean(tff.federated_map(largest, solved))

    columns = [np.array(b, np.float32) for b in ([1, 2, 3], [0, 0, 1], [5, 0, 0])]
    solved, mean = comp(A, columns)
    by_numpy = A.__mul__ if solve is not jnp.linalg.solve else np.linalg.inv(A).dot
    expected = [by_numpy(b) for b in columns]
    np.testing.assert_allclose(solved, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mean, np.mean([e.max() for e in expected]), rtol=1e-5)


def test_callbacks_into_python_are_refused():
    @tff.jax.computation(np.float32)
    def comp(x):
        jax.debug.print('x is {}', x)
        return x

    with pytest.raises(UserError, match=r'computation \(float32.*jax.debug.print'):
        comp(1.0)

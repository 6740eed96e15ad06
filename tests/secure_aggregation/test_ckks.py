"""Weighted means of ciphertexts."""

import sys

import numpy as np
import pytest

from tff_transfer.errors import UserError
from tff_transfer.secure_aggregation import ckks

VECTORS = np.random.default_rng(0).normal(size=(3, ckks.SLOTS + 50))
WEIGHTS = (1.0, 7.5, 3.0)


@pytest.fixture(scope='module')
def key():
    return ckks.make_key()


@pytest.fixture(scope='module')
def total(key):
    public = ckks.public(key)
    encrypted = [
        ckks.encrypt(public, vector, weight, 3)
        for vector, weight in zip(VECTORS, WEIGHTS, strict=True)
    ]
    assert [len(parts) for parts in encrypted] == [2, 2, 2]
    return ckks.add(public, encrypted)


def test_the_weighted_mean(key, total):
    expected = np.average(VECTORS, axis=0, weights=WEIGHTS)
    found = ckks.mean(key, total)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_server_cannot_decrypt(key, total):
    with pytest.raises(ValueError, match='secret_key'):
        ckks.mean(ckks.public(key), total)


def test_the_same_vector_is_another_ciphertext(key):
    first, again = (ckks.encrypt(key, VECTORS[0], 1.0, 3) for _ in range(2))
    assert first != again


@pytest.mark.parametrize('value', [1e5, np.nan, np.inf])
def test_sums_that_could_wrap_are_refused(key, value):
    with pytest.raises(UserError, match='the sum of 3 times'):
        ckks.encrypt(key, np.array([value]), 1.0, 3)


def test_the_largest_sum_is_right(key):
    public = ckks.public(key)
    largest = 2.0**18 / 3
    encrypted = [ckks.encrypt(public, np.array([s, -s]), largest, 3) for s in [1.0] * 3]
    found = ckks.mean(key, ckks.add(public, encrypted))
    np.testing.assert_allclose(found, [1, -1], atol=1e-6)


def test_weights_of_nothing(key):
    encrypted = [ckks.encrypt(key, VECTORS[0], 0.0, 3) for _ in range(2)]
    with pytest.raises(UserError, match='all clients are 0'):
        ckks.mean(key, ckks.add(key, encrypted))


def test_without_tenseal(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tenseal', None)
    with pytest.raises(UserError, match='needs the package tenseal') as error:
        ckks.make_key()
    assert '\n' not in str(error.value)

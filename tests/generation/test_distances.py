"""Distances of sets of vectors, against closed forms, SciPy and pairs by hand."""

import numpy as np
import pytest
import scipy.linalg

from tff_transfer.generation import distances
from tff_transfer.generation.distances import Gaussian


def matched(mean, covariance, rows=40, seed=0):
    """Returns vectors whose sample mean and covariance are exactly these."""
    draw = np.random.default_rng(seed).normal(size=(rows, len(mean)))
    draw -= draw.mean(0)
    draw = draw @ np.linalg.inv(np.linalg.cholesky(np.cov(draw.T))).T
    return draw @ np.linalg.cholesky(covariance).T + mean


def test_frechet_distance_of_two_gaussians_is_the_closed_form():
    # Diagonal: the sum of (m - m')^2 and (s - s')^2.
    one = matched([1.0, -2.0, 0.5], np.diag([4.0, 1.0, 9.0]))
    other = matched([0.0, 1.0, 0.5], np.diag([1.0, 16.0, 9.0]), rows=60, seed=1)
    found = distances.frechet(Gaussian.of(one), Gaussian.of(other))
    np.testing.assert_allclose(found, 1 + 9 + 0 + 1 + 9 + 0, rtol=1e-9)


def test_frechet_distance_is_that_by_the_root_of_a_matrix():
    draw = np.random.default_rng(2)
    one = draw.normal(size=(50, 6)) @ draw.normal(size=(6, 6))
    other = draw.normal(size=(70, 6)) @ draw.normal(size=(6, 6)) + 0.3
    found = distances.frechet(Gaussian.of(one), Gaussian.of(other))
    here, there = np.cov(one.T), np.cov(other.T)
    root = scipy.linalg.sqrtm(here @ there).real
    shift = np.sum((one.mean(0) - other.mean(0)) ** 2)
    expected = shift + np.trace(here) + np.trace(there) - 2 * np.trace(root)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_frechet_distance_of_fewer_vectors_than_numbers():
    # In one line each, so that covariances are a single outer product.
    along = np.zeros(8)
    along[0] = 1.0
    one = np.array([-1.0, 0.0, 1.0])[:, np.newaxis] * along  # Deviation 1.
    other = 3 * one + along
    found = distances.frechet(Gaussian.of(one), Gaussian.of(other))
    np.testing.assert_allclose(found, 1 + (3 - 1) ** 2, rtol=1e-12)
    assert distances.frechet(Gaussian.of(one), Gaussian.of(one[::-1])) < 1e-12


def test_kernel_distance_of_two_and_two_vectors_by_hand():
    one, other = np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 1.0]])
    # k is 1 of the first two, (1 / 2 + 1)^3 of the others, and between 1, 1, 1, 2^3.
    expected = 1 + 1.5**3 - 2 * (1 + 1 + 1 + 8) / 4
    found, error = distances.kernel(one, other, blocks=1)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.isnan(error)


def test_kernel_distance_is_unbiased_over_all_draws():
    # All pairs of three points with replacement, against all pairs of two others.
    here, there = np.array([[0.0], [1.0], [3.0]]), np.array([[1.0], [2.0]])
    found = [
        distances.kernel(here[[a, b]], there[[c, d]], blocks=1)[0]
        for a in range(3)
        for b in range(3)
        for c in range(2)
        for d in range(2)
    ]

    def mean(left, right):
        return np.mean([(x * y + 1) ** 3 for x in left.flat for y in right.flat])

    exact = mean(here, here) + mean(there, there) - 2 * mean(here, there)
    np.testing.assert_allclose(np.mean(found), exact, rtol=1e-12)


def test_error_of_a_kernel_distance_is_that_of_the_blocks():
    draw = np.random.default_rng(0)
    spread = []
    errors = []
    for _ in range(200):
        found, error = distances.kernel(
            draw.normal(size=(60, 2)), draw.normal(size=(60, 2)) + 0.2, blocks=6
        )
        spread.append(found)
        errors.append(error**2)
    np.testing.assert_allclose(np.mean(errors), np.var(spread), rtol=0.35)
    assert abs(np.mean(spread) - closed_form(0.2)) < 4 * np.sqrt(np.mean(errors) / 200)


def closed_form(shift):
    """The squared discrepancy of N(0, I) and N(shift, I) in two dimensions."""
    # Moments by Gauss-Hermite, exact of polynomials of this degree.
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    weights = weights / weights.sum()
    grid = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
    share = np.outer(weights, weights).ravel()

    def mean(one, other):
        return share @ ((one @ other.T / 2 + 1) ** 3) @ share

    moved = grid + shift
    return mean(grid, grid) + mean(moved, moved) - 2 * mean(grid, moved)


@pytest.mark.parametrize('blocks', [1, 3])
def test_blocks_are_a_function_of_the_seed(blocks):
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(30, 2)), draw.normal(size=(25, 2))
    first = distances.kernel(one, other, blocks=blocks, seed=1)
    np.testing.assert_equal(first, distances.kernel(one, other, blocks=blocks, seed=1))
    if blocks > 1:
        assert first != distances.kernel(one, other, blocks=blocks, seed=2)

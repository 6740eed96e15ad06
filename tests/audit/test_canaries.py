"""Epsilon as canaries show it: exact between normals, and never more than is true."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from tff_transfer.audit import canaries
from tff_transfer.audit.canaries import Normal
from tff_transfer.privacy import accounting

DELTA, SIZE, CANARIES = 1e-3, 1000, 150


@pytest.mark.parametrize('noise', [0.3, 1.0, 4.0])
def test_of_equal_deviations_it_is_the_gaussian_mechanism(noise):
    found = canaries.epsilon_of(Normal(5.0 + 1.0, noise), Normal(5.0, noise), DELTA)
    expected = accounting.gaussian_epsilon(noise, DELTA)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ('first', 'second'),
    [
        (Normal(1.0, 1.0), Normal(0.0, 2.0)),
        (Normal(1.0, 2.0), Normal(0.0, 1.0)),
        (Normal(-0.3, 0.02), Normal(0.1, 0.021)),
        (Normal(0.0, 1.5), Normal(0.0, 1.0)),
    ],
)
@pytest.mark.parametrize('epsilon', [0.0, 0.5, 2.0])
def test_divergences_are_integrals(first, second, epsilon):
    ends = [m + sign * 12 * s for m, s in (first, second) for sign in (-1, 1)]
    places = np.linspace(min(ends), max(ends), 4001)
    one, other = (stats.norm.pdf(places, *of) for of in (first, second))
    more = np.maximum(one - math.exp(epsilon) * other, 0)
    expected = integrate.simpson(more, x=places)
    found = canaries.divergence(first, second, epsilon)
    assert found == pytest.approx(expected, abs=2e-5)


def test_epsilon_is_where_both_divergences_are_delta():
    first, second = Normal(0.7, 1.3), Normal(0.0, 1.0)
    epsilon = canaries.epsilon_of(first, second, DELTA)
    both = [
        canaries.divergence(*pair, epsilon)
        for pair in ((first, second), (second, first))
    ]
    assert max(both) == pytest.approx(DELTA, rel=1e-6)
    assert canaries.epsilon_of(first, first, DELTA) == 0
    assert canaries.epsilon_of(Normal(1e9, 1.0), second, DELTA) == math.inf


def directions(draw):
    drawn = draw.normal(size=(CANARIES, SIZE))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def test_directions_are_functions_of_seed_and_number():
    some = np.stack([canaries.direction(3, n, SIZE) for n in (0, 1, 0)])
    other = canaries.direction(2**60, 0, SIZE).numpy()
    np.testing.assert_allclose(np.linalg.norm(some, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(some[0], some[2])
    assert abs(some[0] @ some[1]) < 5 * SIZE**-0.5
    assert abs(some[0] @ other) < 5 * SIZE**-0.5


def test_cosines_are_those_of_numpy():
    draw = np.random.default_rng(0)
    some = directions(draw)
    changes = np.stack([draw.normal(size=SIZE), np.zeros(SIZE), 3 * some[2]])
    found = canaries.cosines(some, changes)
    expected = some @ changes[0] / np.linalg.norm(changes[0])
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    assert not found[1].any() and found[2, 2] == pytest.approx(1)


def mechanism(seed, noise, *, clips=True, times=1, rounds=1):
    """Clients and canaries through Gaussian mechanisms; the audit's estimate.

    Canaries send ten times the clipping norm, which is 1.
    """
    draw = np.random.default_rng(seed)
    some = directions(draw)
    total = np.zeros(SIZE)
    for _ in range(rounds):
        sent = np.r_[draw.normal(size=(30, SIZE)), 10 * np.repeat(some, times, 0)]
        if clips:
            sent /= np.maximum(np.linalg.norm(sent, axis=1, keepdims=True), 1)
        total += sent.sum(0) + draw.normal(0, noise, SIZE)
    found = canaries.cosines(some, total[None])[0]
    return canaries.estimate(found, canaries.null_of_final(SIZE), DELTA)


@pytest.mark.parametrize(('noise', 'rounds'), [(0.8, 1), (2.0, 1), (4.0, 8)])
def test_no_more_is_found_than_is_true(noise, rounds):
    true = accounting.gaussian_epsilon(noise / math.sqrt(rounds), DELTA)
    found = [mechanism(seed, noise, rounds=rounds) for seed in range(20)]
    assert sum(one.low > true for one in found) <= 1
    assert all(0 <= one.low <= one.epsilon for one in found)
    # The bound is of use: other clients and canaries alone hide what it misses.
    assert np.median([one.low for one in found]) > 0.5 * true


@pytest.mark.parametrize(
    'leak',
    [
        {'noise': 0.0},
        {'noise': 1.0, 'clips': False},
        {'noise': 2.0, 'times': 2},
    ],
    ids=['noise off', 'clip off', 'counted twice'],
)
def test_a_leak_is_found(leak):
    promised = accounting.gaussian_epsilon(leak['noise'] or 1.0, DELTA)
    assert all(mechanism(seed, **leak).low > promised for seed in range(20))


def test_a_direction_that_nobody_sent_shows_nothing():
    draw = np.random.default_rng(0)
    some = directions(draw)
    found = canaries.cosines(some, draw.normal(size=(1, SIZE)))[0]
    null = canaries.null_of_final(SIZE)
    assert canaries.fitted(found).deviation == pytest.approx(null.deviation, rel=0.2)
    assert canaries.estimate(found, null, DELTA).low < 0.05

"""Vectors as integers that do not wrap, and what rounding costs."""

import numpy as np
import pytest

from tff_transfer.errors import UserError
from tff_transfer.secure_aggregation import quantisation
from tff_transfer.secure_aggregation.quantisation import Quantiser, error_bound


def summed(quantiser, vectors, weights, draws=None):
    parts = [
        quantisation.quantise(quantiser, vector, weight, draws)
        for vector, weight in zip(vectors, weights, strict=True)
    ]
    return np.sum(parts, axis=0, dtype=np.uint32)


def test_by_hand():
    # 2 clients of weight up to 3 in 8 bits: 255 // 6 = 42 units for [-1, 1].
    quantiser = Quantiser(1.0, 8, 2, 3)
    assert quantiser.levels == 42
    found = quantisation.quantise(quantiser, np.array([-1, 0, 0.5, 1, 7]), 2)
    assert found.dtype == np.uint32
    assert found.tolist() == [0, 42, 63, 84, 84, 2]
    one = quantisation.quantise(quantiser, np.array([-1, -1, -1, -1, -1.0]), 1)
    assert one.tolist() == [0, 0, 0, 0, 0, 1]
    mean = quantisation.mean(quantiser, found + one)
    np.testing.assert_allclose(mean, [-1, -1 / 3, 0, 1 / 3, 1 / 3], atol=1e-12)


@pytest.mark.parametrize(
    'bits, clients, largest', [(32, 1000, 100), (16, 7, 9), (8, 255, 1)]
)
def test_the_largest_sum_does_not_wrap(bits, clients, largest):
    quantiser = Quantiser(2.0, bits, clients, largest)
    top = quantisation.quantise(quantiser, np.full(1, 2.0), largest)
    drawn = np.random.default_rng(0)
    assert np.array_equal(
        quantisation.quantise(quantiser, np.full(1, 2.0), largest, drawn), top
    )
    whole = [int(value) * clients for value in top]
    assert max(whole) < 2**bits
    # One more unit would be too much.
    assert (quantiser.levels + 1) * clients * largest > 2**bits - 1


@pytest.mark.parametrize('stochastic', [False, True])
@pytest.mark.parametrize(
    'bits, weights',
    [(32, (1,) * 6), (20, (1, 5, 9, 0, 2, 3)), (10, (4, 4, 9, 1, 0, 2))],
)
def test_the_error_stays_below_its_bound_and_comes_near(bits, weights, stochastic):
    draw = np.random.default_rng(1)
    vectors = draw.uniform(-4, 4, (6, 20_000))
    quantiser = Quantiser(3.0, bits, 6, max(weights))
    draws = np.random.default_rng(2) if stochastic else None
    found = quantisation.mean(quantiser, summed(quantiser, vectors, weights, draws))
    exact = np.average(np.clip(vectors, -3, 3), axis=0, weights=weights)
    bound = error_bound(quantiser, 6, sum(weights), stochastic)
    error = np.abs(found - exact).max()
    # Six roundings rarely are all the worst; a bound of twice as much would be loose.
    assert bound / 4 < error <= bound


def test_the_bound_is_reached():
    # One client, one level: 0.25 is a quarter of a unit from where it is rounded to.
    quantiser = Quantiser(1.0, 1, 1)
    found = quantisation.mean(
        quantiser, quantisation.quantise(quantiser, np.array([1e-12]))
    )
    assert abs(found[0] - 1e-12) == pytest.approx(
        error_bound(quantiser, 1, 1), rel=1e-4
    )


def test_stochastic_rounding_has_no_bias():
    quantiser = Quantiser(1.0, 8, 60)
    # A third of the way between two of its 4 levels.
    value = -1 + 2 * (1 + 1 / 3) / quantiser.levels
    vector = np.full(30_000, value)
    draws = np.random.default_rng(4)
    found = quantisation.mean(
        quantiser, quantisation.quantise(quantiser, vector, 1, draws)
    )
    step = 2 / quantiser.levels
    # Four standard errors of a draw with probability 1/3.
    assert abs(found.mean() - value) < 4 * step * np.sqrt(2 / 9 / 30_000)
    nearest = quantisation.mean(quantiser, quantisation.quantise(quantiser, vector))
    assert abs(nearest.mean() - value) == pytest.approx(step / 3)


def test_weight_of_nothing():
    quantiser = Quantiser(1.0, 16, 3, 5)
    vectors = np.array([[0.9], [-0.5]])
    found = quantisation.mean(quantiser, summed(quantiser, vectors, (0, 5)))
    assert found[0] == pytest.approx(-0.5, abs=error_bound(quantiser, 2, 5))
    with pytest.raises(UserError, match='all clients are 0'):
        quantisation.mean(quantiser, summed(quantiser, vectors, (0, 0)))


@pytest.mark.parametrize(
    'given, why',
    [
        ((1.0, 8, 256), 'can wrap around 2\\^8'),
        ((1.0, 8, 16, 16), 'can wrap around 2\\^8'),
        ((1.0, 33, 2), '1 to 32'),
        ((0.0, 8, 2), 'above 0'),
        ((np.nan, 8, 2), 'above 0'),
        ((1.0, 8, 0), 'at least 1'),
    ],
)
def test_quantisers_that_make_no_sense(given, why):
    with pytest.raises(UserError, match=why):
        Quantiser(*given)


@pytest.mark.parametrize(
    'value, weight, why',
    [
        (np.nan, 1, 'not finite'),
        (np.inf, 1, 'not finite'),
        (0.0, 6, 'from 0 to 5'),
        (0.0, -1, 'from 0 to 5'),
        (0.0, 1.5, 'from 0 to 5'),
    ],
)
def test_what_cannot_be_quantised(value, weight, why):
    with pytest.raises(UserError, match=why):
        quantisation.quantise(Quantiser(1.0, 16, 3, 5), np.array([value]), weight)

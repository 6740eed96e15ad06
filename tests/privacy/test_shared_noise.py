"""Noise that clients add: what it costs, and what is drawn."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from scipy import special, stats

from tff_transfer import runtime
from tff_transfer.errors import UserError
from tff_transfer.privacy import distributed, randomizers
from tff_transfer.privacy.accounting import Plan, gaussian_epsilon
from tff_transfer.privacy.distributed import Distributed
from tff_transfer.privacy.local import Local

GRID = np.arange(-400, 401)
PLAN = Plan(60, 10, 12, 1000)


def divergence(p, q, order):
    """Returns the Rényi divergence of two distributions, where neither is nothing."""
    p, q = (np.log(each[(p > 1e-200) & (q > 1e-200)]) for each in (p, q))
    return special.logsumexp(order * p + (1 - order) * q) / (order - 1)


@pytest.mark.parametrize('variance', [4.0, 100.0])
def test_the_bound_of_skellam_noise_is_above_its_divergence(variance):
    p = stats.skellam.pmf(GRID, variance / 2, variance / 2)
    orders = np.array([2, 3, 6])
    bounds = distributed.skellam_rdp(variance, 1, 1, orders)
    for order, bound in zip(orders, bounds, strict=True):
        exact = divergence(p[1:], p[:-1], order)
        assert exact <= bound < exact * (1 + 4 / variance)


@pytest.mark.parametrize('clients', [1, 5])
def test_the_bound_of_discrete_gaussians_is_above_their_divergence(clients):
    each = np.exp(-(GRID**2) / (2 * 2.0))
    each = total = each / each.sum()
    for _ in range(clients - 1):
        total = np.convolve(total, each, 'same')
    orders = np.array([2, 3, 6])
    bounds = distributed.discrete_gaussian_rdp(2.0, clients, 1, 1, orders)
    for order, bound in zip(orders, bounds, strict=True):
        exact = divergence(total[1:], total[:-1], order)
        assert exact <= bound * (1 + 1e-6) and bound < 1.01 * exact


@pytest.mark.parametrize('kind', ['skellam', 'gaussian'])
def test_many_bits_cost_what_a_plain_gaussian_does(kind):
    options = Distributed(noise_multiplier=3.0, kind=kind, bits=20)
    found = options.mechanism(PLAN)
    # Two turns in 12 rounds, six cohorts; Rényi DP is above what is exact.
    exact = gaussian_epsilon(3.0 / math.sqrt(2), found.delta)
    assert exact < found.epsilon(12) < 1.25 * exact
    assert found.epsilon(6) == found.epsilon(1) < found.epsilon(7)
    few = Distributed(noise_multiplier=3.0, kind=kind, bits=10).mechanism(PLAN)
    assert few.epsilon(12) > found.epsilon(12)
    assert few.bytes_up == 1024 * 10 / 8


def test_bits_that_hold_no_sum_are_one_line():
    with pytest.raises(UserError, match='--distributed.bits=3 cannot hold the sum'):
        Distributed(noise_multiplier=1.0, bits=3).mechanism(PLAN)


def aggregated(options, values):
    """Returns the aggregate of clients' vectors, and what was measured."""
    plan = Plan(60, len(values), 12, len(values[0]))
    mechanism = options.mechanism(plan)
    of = tff.types.to_type(((np.float32, [plan.size]), ()))
    process = options.aggregator(mechanism).create(of)
    with runtime.use_compiled(seed=3):
        output = process.next(process.initialize(), [(v, ()) for v in values])
    return mechanism, np.asarray(output.result[0]), output.measurements


@pytest.mark.parametrize(
    'kind', ['skellam', pytest.param('gaussian', marks=pytest.mark.slow)]
)
def test_what_is_accounted_is_what_clients_add(kind):
    values = np.random.default_rng(0).normal(size=(4, 2000)).astype(np.float32)
    options = Distributed(noise_multiplier=1.5, clip=2.0, kind=kind)
    mechanism, found, measured = aggregated(options, values)
    clipped = [2.0 * v / np.linalg.norm(v) for v in values]
    noise = (found - np.mean(clipped, 0)) * 4
    assert np.std(noise) == pytest.approx(1.5 * 2.0, rel=0.07)
    scaled = measured['mean_value']
    assert float(scaled['scale_factor']) == pytest.approx(mechanism.scale, rel=1e-5)
    assert int(scaled['padded_dim']) == mechanism.padded
    assert float(scaled['scaled_local_stddev']) == pytest.approx(
        1.5 * 2.0 / 2 * mechanism.scale, rel=1e-5
    )


def test_updates_of_another_size_than_was_accounted_are_refused():
    options = Distributed(noise_multiplier=1.5)
    aggregator = options.aggregator(options.mechanism(PLAN))
    with pytest.raises(UserError, match='sends 7 numbers of each client, not the 1000'):
        aggregator.create(tff.types.to_type(((np.float32, [7]), ())))


def test_the_odds_of_privunit_are_those_of_its_epsilon():
    for epsilon, threshold in ((0.5, 0.3), (8.0, 2.0)):
        share = randomizers.privunit_share(epsilon, threshold)
        above = share / stats.norm.sf(threshold)
        below = (1 - share) / stats.norm.cdf(threshold)
        assert above / below == pytest.approx(math.exp(epsilon))


DRAWS = 20000
VECTOR = np.array([0.3, -0.4, 0.0, 1.2], np.float32)  # Of norm 1.3, or 1.9.


@pytest.mark.parametrize(
    ('randomize', 'mean', 'variance'),
    [
        (randomizers.gaussian(0.5, 2.0), VECTOR * 0.5 / 1.3, 1.0),
        (randomizers.laplace(0.5, 2.0), VECTOR * 0.5 / 1.9, 2.0),
        (randomizers.laplace(9.0, 0.1), VECTOR, 2 * 0.9**2),
        (randomizers.privunit(0.5, 6.0), VECTOR * 0.5 / 1.3, None),
    ],
)
def test_what_is_sent_is_right_on_average(randomize, mean, variance):
    tf.random.set_seed(1)
    drawn = tf.vectorized_map(
        lambda _: tf.function(randomize)(VECTOR), tf.zeros(DRAWS)
    ).numpy()
    error = drawn.std(0) / math.sqrt(DRAWS)
    assert (np.abs(drawn.mean(0) - mean) < 4 * error).all()
    if variance is not None:
        np.testing.assert_allclose(drawn.var(0), variance, rtol=0.1)


def test_privunit_is_above_its_threshold_as_often_as_it_says():
    tf.random.set_seed(1)
    randomize = randomizers.privunit(1.0, 3.0)
    drawn = tf.vectorized_map(
        lambda _: tf.function(randomize)(VECTOR), tf.zeros(DRAWS)
    ).numpy()
    along = np.sort(drawn @ VECTOR / 1.3)
    # Between what is below and what is above there is the threshold, where the
    # density jumps by exp(3) downwards: the share above it, of the best threshold.
    thresholds = np.linspace(0, 4, 401)
    best = max(thresholds, key=lambda t: randomizers._mean_component(3.0, t))
    scale = 1 / randomizers._mean_component(3.0, best)
    share = np.mean(along > best * scale)
    error = math.sqrt(0.25 / DRAWS)
    assert abs(share - randomizers.privunit_share(3.0, best)) < 4 * error + 0.01


@pytest.mark.parametrize('kind', ['privunit', 'gaussian', 'laplace'])
def test_local_epsilon_is_that_of_all_turns(kind):
    found = Local(noise_multiplier=2.0, kind=kind).mechanism(PLAN)
    assert found.epsilon(0) == 0
    once = {
        'privunit': 0.5,
        'laplace': 1.0,
        'gaussian': gaussian_epsilon(1.0, found.delta),
    }[kind]
    assert found.epsilon(1) == found.epsilon(6) == pytest.approx(once)
    assert once < found.epsilon(7) <= 2 * once
    exact = Local(target_epsilon=3.0, kind=kind).mechanism(PLAN)
    assert 2.98 < exact.epsilon(12) <= 3.0


def test_updates_are_randomized_as_one_vector():
    aggregator = Local(noise_multiplier=1e-6, clip=2.0, kind='gaussian').aggregator(
        Local(noise_multiplier=1e-6, clip=2.0, kind='gaussian').mechanism(PLAN)
    )
    of = tff.types.to_type(((np.float32, [2, 2]), (np.float32, [3])))
    process = aggregator.create(of)
    values = [
        (np.full([2, 2], c, np.float32), np.full(3, -c, np.float32)) for c in (1, 3)
    ]
    with runtime.use_compiled(seed=3):
        output = process.next(process.initialize(), values)
    # Of norms 7 ** 0.5 and 3 * 7 ** 0.5, both above 2: to the same.
    np.testing.assert_allclose(output.result[0], np.full([2, 2], 2 / 7**0.5), rtol=1e-4)
    np.testing.assert_allclose(output.result[1], np.full(3, -2 / 7**0.5), rtol=1e-4)

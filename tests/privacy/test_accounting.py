"""Epsilon, beside dp_accounting's own accountants and what can be worked out."""

import dataclasses
import math

import dp_accounting
import numpy as np
import pytest
import tensorflow_federated as tff
from dp_accounting import pld, rdp
from scipy import optimize, stats

from tff_transfer import runtime
from tff_transfer.errors import UserError
from tff_transfer.privacy import accounting
from tff_transfer.privacy.central import Central
from tff_transfer.privacy.tree import Tree

MECHANISM = accounting.SampledGaussian(1.0, 360, 50, True, 1e-3)
FIXED = dataclasses.replace(MECHANISM, poisson=False)


def test_poisson_sampling_is_that_of_dp_accounting():
    rounds = 30
    noise = dp_accounting.GaussianDpEvent(1.0)
    event = dp_accounting.PoissonSampledDpEvent(50 / 360, noise)
    found = []
    for accountant in (pld.PLDAccountant(), rdp.RdpAccountant()):
        accountant.compose(event, rounds)
        found.append(accountant.get_epsilon(1e-3))
    assert found[0] < found[1]
    assert MECHANISM.epsilon(rounds) == pytest.approx(found[0], rel=1e-6)
    assert accounting._by_rdp(MECHANISM, rounds) == pytest.approx(found[1], rel=1e-6)


@pytest.mark.parametrize('rounds', [1, 30])
def test_cohorts_of_a_fixed_size_replace_a_client(rounds):
    accountant = rdp.RdpAccountant(
        neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_ONE
    )
    # The sum moves by twice the clipping norm: the noise is half as much to that.
    noise = dp_accounting.GaussianDpEvent(0.5)
    event = dp_accounting.SampledWithoutReplacementDpEvent(360, 50, noise)
    accountant.compose(event, rounds)
    assert FIXED.epsilon(rounds) == pytest.approx(accountant.get_epsilon(1e-3), 1e-6)


def test_all_clients_in_each_round_are_the_gaussian_mechanism():
    # Balle & Wang 2018, theorem 8: exact. T rounds of noise z are one of z / sqrt(T).
    rounds, noise, delta = 16, 8.0, 1e-3
    mu = math.sqrt(rounds) / noise

    def excess(epsilon):
        upper = stats.norm.cdf(mu / 2 - epsilon / mu)
        lower = math.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu)
        return upper - lower - delta

    exact = optimize.brentq(excess, 0, 20)
    of_all = accounting.SampledGaussian(noise, 20, 20, True, delta)
    assert exact <= of_all.epsilon(rounds) <= 1.01 * exact


def test_nothing_is_spent_before_the_first_round_and_all_without_noise():
    assert MECHANISM.epsilon(0) == 0
    assert dataclasses.replace(MECHANISM, noise_multiplier=0.0).epsilon(1) == math.inf


@pytest.mark.slow
@pytest.mark.parametrize('mechanism', [MECHANISM, FIXED])
def test_the_noise_for_an_epsilon_is_the_least(mechanism):
    noise = accounting.noise_multiplier_for(3.0, 20, mechanism)
    found = dataclasses.replace(mechanism, noise_multiplier=noise)
    less = dataclasses.replace(mechanism, noise_multiplier=0.99 * noise)
    assert found.epsilon(20) <= 3.0 < less.epsilon(20)


def test_what_no_noise_can_keep_is_one_line():
    strict = Tree(target_epsilon=1e-6, delta=1e-12)
    with pytest.raises(UserError, match='no noise keeps epsilon below 1e-06'):
        strict.mechanism(accounting.Plan(360, 50, 10, 1))


def test_the_published_epsilon_of_dp_fed_avg():
    # McMahan et al. 2018: 4.634 for 5,000 rounds of 5,000 of 763,430 users, delta 1e-9,
    # by the moments accountant: whole orders to 33, and Abadi et al. 2016's theorem 2.
    published = accounting.SampledGaussian(1.0, 763_430, 5_000, True, 1e-9)
    orders, divergence = accounting._rdp_of_round(published)
    moments = (orders == np.round(orders)) & (orders <= 33)
    epsilons = 5_000 * divergence + math.log(1e9) / (orders - 1)
    assert epsilons[moments].min() == pytest.approx(4.634, abs=5e-4)
    # What is known of Gaussian noise since makes it less.
    assert 3.5 < accounting._by_rdp(published, 5_000) < 4.2


def test_the_published_epsilon_of_dp_ftrl():
    # The first language model that was trained so in production, by the accounting of
    # Kairouz et al. 2021, appendix D.2: one tree of 2,000 rounds, noise multiplier 7,
    # 6 rounds of a client at most with 313 between two: 0.81-zCDP, and epsilon 8.90 at
    # delta 1e-10 (google-research/federated,
    # dp_ftrl/blogpost_supplemental_privacy_accounting.ipynb).
    rounds = 314 * np.arange(6)
    nodes = [np.bincount(rounds >> level) for level in range(11)]
    # Of what a client moves: nodes with all their leaves among the 2,000 rounds.
    whole = [n[: 2000 >> level] for level, n in enumerate(nodes)]
    squares = sum(int(np.sum(n**2)) for n in whole)
    assert squares / (2 * 7**2) == pytest.approx(0.81, abs=5e-3)
    of_all = accounting.SampledGaussian(7 / math.sqrt(squares), 1, 1, True, 1e-10)
    assert accounting._by_rdp(of_all, 1) == pytest.approx(8.90, abs=5e-3)
    # As one Gaussian mechanism, which it is, it is known exactly.
    exact = accounting.gaussian_epsilon(7 / math.sqrt(squares), 1e-10)
    assert 8.0 < exact < 8.90


@pytest.mark.parametrize('noise', [0.1, 1.0, 8.0])
def test_the_norm_is_found_out_of_the_same_epsilon(noise):
    # Andrew et al. 2021, theorem 1: what is left for updates, z_u^-2 = z^-2 - (2 s)^-2,
    # where s is the noise of the count, which a client moves by a half.
    of = Central(noise_multiplier=noise, quantile=0.5, clip=0.3)
    mechanism = of.mechanism(accounting.Plan(40, 8, 4, 10))
    process = of.aggregator(mechanism).create(tff.TensorType(np.float32, [3]))
    with runtime.use_compiled():
        state = process.initialize().query_state
    sums = state.numerator_state
    below = sums.quantile_estimator_state.below_estimate_state
    of_count, of_updates = below.numerator_state.stddev, sums.noise_multiplier
    assert of_count == pytest.approx(max(0.4, noise))
    assert of_updates**-2 + (2 * of_count) ** -2 == pytest.approx(noise**-2, 1e-4)

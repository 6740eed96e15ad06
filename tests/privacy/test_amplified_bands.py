"""Banded noise with drawn cohorts, beside dp_accounting and its neighbours."""

import dataclasses
import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld, rdp

from tff_transfer.data import cohorts
from tff_transfer.errors import UserError
from tff_transfer.privacy.accounting import Plan, SampledGaussian, gaussian_epsilon
from tff_transfer.privacy.banded import Banded
from tff_transfer.simulation.selection.known import Known
from tff_transfer.simulation.selection.registry import of_mechanism

PLAN = Plan(360, 30, 50, 1)


def drawn(bands, noise=1.0, plan=PLAN):
    options = Banded(
        noise_multiplier=noise, bands=bands, sampling='poisson', delta=1e-3
    )
    return options.mechanism(plan)


@pytest.mark.parametrize(
    'rounds', [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4, 50))]
)
def test_a_client_is_in_sampled_rounds_of_its_group(rounds):
    # Of 4 groups of 90 clients, a third of one takes part in a round.
    noise = dp_accounting.GaussianDpEvent(1.0)
    event = dp_accounting.PoissonSampledDpEvent(30 * 4 / 360, noise)
    theirs = []
    for accountant in (pld.PLDAccountant(), rdp.RdpAccountant()):
        accountant.compose(event, math.ceil(rounds / 4))
        theirs.append(accountant.get_epsilon(1e-3))
    assert drawn(4).epsilon(rounds) == pytest.approx(min(theirs), rel=1e-6)


def test_one_band_is_noise_of_its_own_in_each_round():
    plain = SampledGaussian(1.0, 360, 30, True, 1e-3)
    mechanism = drawn(1)
    assert mechanism.coefficients == (1.0,)
    assert mechanism.epsilon(50) == plain.epsilon(50)


def test_without_luck_of_the_draw_all_of_a_group_take_part():
    # 12 groups of 30: one Gaussian mechanism of the 5 rounds that a client has of 50.
    exact = gaussian_epsilon(1.0 / math.sqrt(5), 1e-3)
    assert exact <= drawn(12).epsilon(50) <= 1.01 * exact
    in_turn = Banded(noise_multiplier=1.0, delta=1e-3).mechanism(PLAN)
    assert in_turn.epsilon(50) == pytest.approx(exact)


def test_columns_of_a_clients_rounds_share_no_row():
    mechanism = drawn(4)
    column = np.array(mechanism.coefficients)
    assert len(column) == mechanism.groups == 4
    c = sum(np.diag(np.full(50 - i, v), -i) for i, v in enumerate(column))
    for first in range(4):
        gram = c[:, first::4].T @ c[:, first::4]
        np.testing.assert_allclose(gram, np.diag(np.diag(gram)), atol=1e-12)
        assert np.diag(gram).max() == pytest.approx(1)


@pytest.mark.slow
def test_noise_for_an_epsilon_of_drawn_cohorts():
    options = Banded(target_epsilon=2.0, bands=4, sampling='poisson')
    found = options.mechanism(PLAN)
    assert 1.99 < found.epsilon(50) <= 2.0
    assert '4 groups' in found.described(50)
    less = dataclasses.replace(found, noise_multiplier=0.0)
    assert less.epsilon(1) == math.inf


def test_each_of_a_group_is_drawn_by_itself():
    rule = of_mechanism(drawn(4))
    known = Known(np.arange(360), population=360)
    named = {'seed': 3, 'loss_of': None}
    rounds = [rule.choose(known, 30, round_number=n, **named) for n in range(1, 2001)]
    counts = np.zeros([360, 4])
    for number, clients in enumerate(rounds):
        assert len(set(clients)) == len(clients)
        counts[clients, number % 4] += 1
    # Each client is in one group, and there in a third of 500 rounds.
    assert ((counts > 0).sum(1) == 1).all()
    assert (np.count_nonzero(counts, 0) == 90).all()
    mine = counts.max(1)
    assert mine.mean() == pytest.approx(500 / 3, rel=0.01)
    assert np.var(mine) == pytest.approx(500 * 2 / 9, rel=0.25)
    # Sizes are binomial, and two clients of a group are drawn apart.
    sizes = [len(clients) for clients in rounds]
    assert np.var(sizes) == pytest.approx(90 * 2 / 9, rel=0.15)
    again = rule.choose(known, 30, round_number=7, **named)
    np.testing.assert_array_equal(again, rounds[6])


def test_groups_of_unequal_size_have_the_same_chance():
    clients = [
        cohorts.sample_in_turn(10, 2, groups=4, seed=0, round_number=n)
        for n in range(1, 4001)
    ]
    counts = np.bincount(np.concatenate(clients), minlength=10)
    assert counts == pytest.approx(np.full(10, 1000 * 0.8), rel=0.08)


def test_what_draws_need_is_one_line():
    with pytest.raises(UserError, match='--banded.sampling=poisson needs --banded.b'):
        Banded(noise_multiplier=1.0, sampling='poisson').check('banded')
    with pytest.raises(UserError, match='--banded.bands=13 needs as many disjoint'):
        drawn(13)

"""DP-FTRL: how far a client reaches, what that costs, and the noise that is added."""

import dataclasses
import math

import dp_accounting
import numpy as np
import pytest
import tensorflow_federated as tff
from dp_accounting import rdp
from scipy import linalg

from tff_transfer import runtime
from tff_transfer.data import cohorts
from tff_transfer.errors import UserError
from tff_transfer.privacy import accounting
from tff_transfer.privacy.accounting import Plan
from tff_transfer.privacy.banded import Banded, expected_loss, toeplitz
from tff_transfer.privacy.tree import Tree

# Of the factorisation for 1,024 rounds and 32 bands; jax-privacy finds 24.55829.
BEST_LOSS = 24.55828
SIZE = 4000


def lower(column, rounds):
    """Returns the Toeplitz matrix C, [rounds, rounds]."""
    padded = np.zeros(rounds)
    padded[: len(column)] = column
    return linalg.toeplitz(padded, np.zeros(rounds))


def test_the_loss_is_that_of_the_matrices_and_so_is_its_slope():
    column, rounds = np.array([1.0, 0.4, 0.2]), 9
    inverse = np.linalg.inv(lower(column, rounds))
    b = np.tril(np.ones([rounds, rounds])) @ inverse
    loss, slope = expected_loss(column, rounds)
    assert loss == pytest.approx(np.sum(b**2) / rounds * np.sum(column**2))
    for place in range(3):
        step = np.zeros(3)
        step[place] = 1e-6
        ahead, behind = (expected_loss(column + s, rounds)[0] for s in (step, -step))
        assert slope[place] == pytest.approx((ahead - behind) / 2e-6, rel=1e-5)


def test_the_best_factorisation_is_as_good_as_that_of_jax_privacy():
    column = toeplitz(32, 1024)
    assert np.linalg.norm(column) == pytest.approx(1)
    assert expected_loss(column, 1024)[0] == pytest.approx(BEST_LOSS, abs=2e-5)
    # One band is noise of its own in each round: the mean of 1 to 1,024.
    assert expected_loss(toeplitz(1, 1024), 1024)[0] == pytest.approx(512.5)


@pytest.mark.parametrize('rounds', [1, 5, 6, 13, 14])
def test_no_client_reaches_farther_than_is_counted(rounds):
    mechanism = Banded(noise_multiplier=1.0).mechanism(Plan(31, 5, 14, 1))
    assert mechanism.separation == len(mechanism.coefficients) == 6
    c = lower(mechanism.coefficients, 14)[:rounds, :rounds]
    reach = [np.sum(c[:, first::6].sum(1) ** 2) for first in range(6)]
    counted = mechanism.squared_sensitivity(rounds)
    assert max(reach) <= counted + 1e-9
    # Updates of opposite directions reach no farther, since columns are orthogonal.
    assert np.allclose((c.T @ c)[0, 6:], 0)
    assert counted == math.ceil(rounds / 6)


def test_a_client_is_in_the_nodes_above_its_leaf():
    mechanism = Tree(noise_multiplier=1.0).mechanism(Plan(35, 5, 20, 1))
    assert mechanism.separation == 7
    # Nodes of 1, 2 and 4 leaves that 1 to 7 rounds make whole.
    found = [mechanism.squared_sensitivity(n) for n in range(9)]
    assert found == [0, 1, 2, 2, 3, 3, 3, 3, 4]


@pytest.mark.parametrize('rounds', [3, 7, 20])
def test_the_tree_is_accounted_as_dp_accounting_does(rounds):
    mechanism = Tree(noise_multiplier=3.0).mechanism(Plan(35, 5, 20, 1))
    # A client whose updates are nothing instead.
    special = dp_accounting.NeighboringRelation.REPLACE_SPECIAL
    accountant = rdp.RdpAccountant(neighboring_relation=special)
    for steps in [7] * (rounds // 7) + [rounds % 7] * (rounds % 7 > 0):
        accountant.compose(dp_accounting.SingleEpochTreeAggregationDpEvent(3.0, steps))
    plain = rdp.RdpAccountant()
    reach = math.sqrt(mechanism.squared_sensitivity(rounds))
    plain.compose(dp_accounting.GaussianDpEvent(3.0 / reach))
    delta = mechanism.delta
    theirs = accountant.get_epsilon(delta)
    assert plain.get_epsilon(delta) == pytest.approx(theirs, rel=1e-6)
    # Of a Gaussian mechanism it is known exactly, which is less.
    assert 0.7 * theirs < mechanism.epsilon(rounds) < theirs


@pytest.mark.parametrize('noise', [0.3, 1.0, 30.0])
def test_one_gaussian_mechanism_is_exact(noise):
    epsilon = accounting.gaussian_epsilon(noise, 1e-3)
    accountant = dp_accounting.pld.PLDAccountant()
    accountant.compose(dp_accounting.GaussianDpEvent(noise))
    theirs = accountant.get_epsilon(1e-3)
    # Theirs is rounded up, by up to 1e-4.
    assert epsilon <= theirs < epsilon + 2e-4


@pytest.mark.parametrize('kind', [Tree, Banded])
def test_noise_for_an_epsilon(kind):
    found = kind(target_epsilon=2.0).mechanism(Plan(60, 5, 30, 1))
    assert 1.99 < found.epsilon(30) <= 2.0
    assert found.epsilon(10) < found.epsilon(30)
    assert found.epsilon(0) == 0
    less = dataclasses.replace(found, noise_multiplier=0.0)
    assert less.epsilon(1) == math.inf
    assert 'each every 12 rounds' in found.described(30)


def test_more_bands_than_disjoint_cohorts_are_one_line():
    with pytest.raises(UserError, match='--banded.bands=4 needs as many disjoint'):
        Banded(noise_multiplier=1.0, bands=4).mechanism(Plan(31, 10, 14, 1))


def noise_of(options, population, cohort, rounds):
    """Returns what is added to the sums of all rounds, [rounds, SIZE]."""
    mechanism = options.mechanism(Plan(population, cohort, rounds, 1))
    of = tff.types.to_type(((np.float32, [SIZE]), ()))
    process = options.aggregator(mechanism).create(of)
    nothing = (np.zeros(SIZE, np.float32), ())
    found = []
    with runtime.use_compiled(seed=3):
        with runtime.in_round(0):
            state = process.initialize()
        for number in range(rounds):
            with runtime.in_round(number + 1):
                output = process.next(state, [nothing] * 2)
            state = output.state
            found.append(np.asarray(output.result[0]) * cohort)
    return np.array(found)


def test_banded_noise_is_what_the_factorisation_makes_of_plain_noise():
    options = Banded(noise_multiplier=2.0, clip=0.5, bands=3)
    column = options.mechanism(Plan(8, 2, 6, 1)).coefficients
    z = lower(column, 6) @ noise_of(options, 8, 2, 6)
    # Independent, of deviation 2 * 0.5: four standard errors of each.
    moments = z @ z.T / SIZE
    assert np.abs(np.diag(moments) - 1).max() < 4 * math.sqrt(2 / SIZE)
    assert np.abs(moments - np.diag(np.diag(moments))).max() < 4 / math.sqrt(SIZE)


def test_the_tree_s_noise_is_that_of_few_nodes_and_begins_anew():
    options = Tree(noise_multiplier=2.0, clip=0.5)
    variances = np.var(np.cumsum(noise_of(options, 8, 2, 6), 0), axis=1)
    # Honaker's estimate of k levels of whole nodes: 1 / (2 (1 - 2^-k)); 4 rounds a
    # tree, whose noise stays when the next begins.
    node = [1 / (2 * (1 - 0.5**k)) for k in (1, 2, 3)]
    whole = [node[0], node[1], node[1] + node[0], node[2]]
    expected = [*whole, whole[3] + node[0], whole[3] + node[1]]
    np.testing.assert_allclose(variances, expected, rtol=5 * math.sqrt(2 / SIZE))


def test_clients_have_their_turn():
    rounds = [
        cohorts.choose_in_turn(31, 5, seed=1, round_number=n) for n in range(1, 61)
    ]
    for client in range(31):
        mine = [n for n, chosen in enumerate(rounds) if client in chosen]
        assert mine and (np.diff(mine) % 6 == 0).all()
    assert all(len(set(chosen)) == 5 for chosen in rounds)
    other = cohorts.choose_in_turn(31, 5, seed=2, round_number=1)
    assert set(other) != set(rounds[0])
    with pytest.raises(UserError, match='32 clients a round are wanted of 31'):
        cohorts.choose_in_turn(31, 32, seed=1, round_number=1)

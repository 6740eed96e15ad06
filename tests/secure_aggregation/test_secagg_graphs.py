"""Who is whose neighbour, and what a random order may spoil."""

import itertools
import math

import numpy as np
import pytest

from tff_transfer.errors import UserError
from tff_transfer.secure_aggregation import graphs


@pytest.mark.parametrize('n, k', [(2, 1), (7, 2), (7, 6), (8, 3), (8, 7), (50, 10)])
def test_each_client_has_k_neighbours(n, k):
    graph = graphs.k_regular(np.random.default_rng(0).permutation(n), k)
    assert graph.clients == n and graph.degree == k
    for client, around in enumerate(graph.neighbours):
        assert len(set(around)) == len(around) == k
        assert list(around) == sorted(around) and client not in around
        assert all(client in graph.neighbours[other] for other in around)


def test_by_hand():
    # In the circle 2 0 3 1 4 the neighbours of 0 are 2 and 3.
    graph = graphs.k_regular(np.array([2, 0, 3, 1, 4]), 2)
    assert graph.neighbours == ((2, 3), (3, 4), (0, 4), (0, 1), (1, 2))
    everybody = tuple(tuple({0, 1, 2, 3} - {i}) for i in range(4))
    assert graphs.complete(4).neighbours == everybody


@pytest.mark.parametrize(
    'n, k, why', [(4, 4, '4 neighbours'), (4, 0, '0'), (7, 3, 'even')]
)
def test_graphs_that_do_not_exist(n, k, why):
    with pytest.raises(UserError, match=why):
        graphs.k_regular(np.arange(n), k)


def connected(graph, there):
    """Whether those who are there hang together."""
    reached, border = set(), {min(there)}
    while border:
        reached |= border
        border = {
            o for i in border for o in graph.neighbours[i] if o in there
        } - reached
    return reached == there


def test_bounds_hold_and_are_near_in_all_orders():
    # All ways in which 2 corrupt clients and 2 others who drop out stand in the circle.
    n, k, t = 9, 4, 2
    graph = graphs.k_regular(np.arange(n), k)
    secrecy = recovery = total = 0
    for corrupt in itertools.combinations(range(n), 2):
        rest = set(range(n)) - set(corrupt)
        for dropped in itertools.combinations(sorted(rest), 2):
            total += 1
            around = [set(a) for a in graph.neighbours]
            told = any(len(a & set(corrupt)) >= t for a in around)
            secrecy += told or not connected(graph, rest - set(dropped))
            recovery += any(len(a - set(dropped)) < t for a in around)
    found = graphs.risk(n, k, t, 2, 2)
    assert secrecy / total <= found.secrecy
    assert recovery / total <= found.recovery
    # The chance of one client, by counting: both corrupt ones among its 4 of 8 others.
    one = math.comb(4, 2) / math.comb(8, 2)
    apart = (4 / 9) * (3 / 8)
    assert found.secrecy == pytest.approx(min(1.0, 9 * (one + apart)))
    assert graphs.risk(n, k, 3, 2, 2).recovery == pytest.approx(min(1.0, 9 * one))
    assert graphs.risk(n, k, 2, 2, 2).recovery == 0


def test_a_bound_that_is_a_chance():
    # 3 of 99 others among 10 neighbours and 2 or more of them needed, by counting.
    ways = sum(math.comb(10, i) * math.comb(89, 3 - i) for i in (2, 3))
    one = ways / math.comb(99, 3)
    found = graphs.risk(100, 10, 9, 0, 3)
    assert found.recovery == pytest.approx(min(1.0, 100 * one))
    # Three cannot be five in a row, and nobody is corrupt.
    assert found.secrecy == 0


def test_the_smallest_neighbourhood():
    k, t = graphs.smallest(300, 15, 90, 2**-40, 2**-30)
    chosen = graphs.risk(300, k, t, 15, 90)
    assert chosen.secrecy <= 2**-40 and chosen.recovery <= 2**-30
    for fewer in range(2, k, 2):
        for threshold in range(1, fewer + 1):
            found = graphs.risk(300, fewer, threshold, 15, 90)
            assert found.secrecy > 2**-40 or found.recovery > 2**-30
    assert graphs.risk(300, k, t + 1, 15, 90).recovery > 2**-30
    with pytest.raises(UserError, match='complete'):
        graphs.smallest(50, 16, 16, 2**-40, 2**-30)

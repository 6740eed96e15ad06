"""Blocks become shares, and shares go to places, by size."""

import itertools

import numpy as np
import pytest

from tff_transfer import runtime
from tff_transfer.cluster import environment
from tff_transfer.errors import UserError
from tff_transfer.runtime.cluster import scheduling


@pytest.mark.parametrize(
    'sizes, calls, expected',
    [
        ([1, 1, 1, 1], 2, [[1, 1], [1, 1]]),
        ([1, 1, 1, 1], 9, [[1], [1], [1], [1]]),
        ([5, 1, 1, 1], 2, [[5], [1, 1, 1]]),
        ([1, 1, 1, 5], 2, [[1, 1, 1], [5]]),
        ([2, 3, 4, 5, 6], 1, [[2, 3, 4, 5, 6]]),
        ([0], 3, [[0]]),
    ],
)
def test_neighbouring_blocks_are_joined_by_size(sizes, calls, expected):
    cuts = [0, *np.cumsum(np.arange(len(sizes)) + 2).tolist()]
    found = scheduling.shares(cuts, sizes, calls)
    ends = np.cumsum([len(share) for share in expected])
    assert [share.size for share in found] == [sum(share) for share in expected]
    assert [share.cuts[-1] for share in found] == [cuts[end] for end in ends]
    joined = [found[0].cuts[0], *(c for share in found for c in share.cuts[1:])]
    assert joined == cuts


def test_the_largest_share_is_as_small_as_can_be():
    draw = np.random.default_rng(5)
    for _ in range(50):
        sizes = draw.integers(1, 20, 7).tolist()
        found = scheduling.shares(range(8), sizes, 3)
        # All ways to put two cuts between seven blocks.
        least = min(
            max(sum(sizes[:a]), sum(sizes[a:b]), sum(sizes[b:]))
            for a, b in itertools.combinations(range(1, 7), 2)
        )
        assert len(found) <= 3
        assert max(share.size for share in found) == least


def test_the_largest_go_first_and_where_most_is_free():
    waiting = {0: 1.0, 1: 9.0, 2: 5.0, 3: 5.0}
    found = scheduling.assign(waiting, {'a': 1, 'b': 2})
    assert found == [(1, 'b'), (2, 'a'), (3, 'b')]
    assert scheduling.assign(waiting, {'a': 0}) == []
    assert scheduling.assign(waiting, {}) == []
    assert scheduling.assign({}, {'a': 1}) == []


@pytest.mark.parametrize('address', ['', 'here', ':1', 'here:', 'a:b'])
def test_what_is_no_address_is_told(address):
    pytest.importorskip('ray', reason='Ray is not installed')
    with pytest.raises(UserError, match='is no address: give it as in'):
        runtime.use_cluster(address)


def test_where_nothing_answers_is_told():
    pytest.importorskip('ray', reason='Ray is not installed')
    with pytest.raises(UserError, match='nobody answers at 127.0.0.1:9'):
        runtime.use_cluster('127.0.0.1:9')


def test_without_ray_it_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(environment.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='pip install ray==2.52.1'):
        runtime.use_cluster('127.0.0.1:9')

"""Blocks' states become one in a tree, whoever merges which part of it."""

import itertools

import pytest

from tff_transfer.runtime import merging


def merged(states, merges):
    """Does merges, and checks that their numbers are the right state's first block."""
    states = list(states)
    for left, right, number in merges:
        assert first_of(states[right]) == number
        states[left] = states[left], states[right]
    return states


def first_of(state):
    return state if isinstance(state, int) else first_of(state[0])


def whole(blocks):
    return merged(range(blocks), merging.remaining([1] * blocks))[0]


def test_neighbours_are_merged_level_by_level():
    assert whole(1) == 0
    assert whole(2) == (0, 1)
    assert whole(5) == (((0, 1), (2, 3)), 4)
    assert whole(7) == (((0, 1), (2, 3)), ((4, 5), 6))


@pytest.mark.parametrize('blocks', [1, 2, 3, 5, 8, 11])
def test_parts_that_were_merged_before_change_nothing(blocks):
    cuts = range(1, blocks)
    for count in range(min(blocks, 4)):
        for inner in itertools.combinations(cuts, count):
            states, spans = [], []
            for first, last in itertools.pairwise([0, *inner, blocks]):
                merges, kept, of = merging.within(first, last, blocks)
                part = merged(range(first, last), merges)
                states += [part[block] for block in kept]
                spans += of
            assert sum(spans) == blocks
            found = merged(states, merging.remaining(spans))
            assert found[0] == whole(blocks)


def test_halves_of_eight_blocks_are_two_states():
    first = merging.within(0, 4, 8)
    assert first == ([(0, 1, 1), (2, 3, 3), (0, 2, 2)], [0], [4])
    assert merging.within(4, 8, 8)[1:] == ([0], [4])
    assert merging.remaining([4, 4]) == [(0, 1, 4)]
    # Neither 2 nor 3 is half of a pair with a neighbour that is here.
    assert merging.within(1, 4, 8)[1:] == ([0, 1], [1, 2])

"""Rounds on a cluster that is thought up, against sums by hand."""

import dataclasses

import pytest

from benchmarks import cluster_model
from benchmarks.cluster_model import Network, Round

INSTANT = Network(delay=0.0, bandwidth=1e30)
ROUND = Round(
    compute=8.0, sent=0.0, broadcast=0.0, state=0.0, server=0.0, call=0.0, merge=0.0
)


@pytest.mark.parametrize(
    'nodes, blocks, expected',
    [(1, 8, 8.0), (2, 8, 4.0), (3, 8, 3.0), (8, 8, 1.0), (100, 8, 1.0), (100, 16, 0.5)],
)
def test_blocks_of_one_size_on_nodes_of_one_speed(nodes, blocks, expected):
    assert cluster_model.seconds(ROUND, INSTANT, nodes, blocks) == pytest.approx(
        expected
    )


def test_what_the_driver_does_adds_up():
    of = dataclasses.replace(
        ROUND, sent=40.0, broadcast=5.0, state=2.0, server=0.5, call=0.1, merge=0.25
    )
    # Of two nodes the first gets (20 + 5) / 10 after the call, the second as much
    # later; each computes for 4, merges its four blocks' sums by three merges, and
    # gives their sum, which takes 2 / 10 + 0.25.
    first = 0.5 + 0.1 + 2.5 + 1.0 + 4.0 + 3 * 0.25 + 1.0
    second = first + 0.1 + 2.5
    sums = 0.2 + 0.25
    found = cluster_model.seconds(of, Network(1.0, 10.0), 2, 8)
    assert found == pytest.approx(max(first + sums, second) + sums)

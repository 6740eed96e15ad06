"""The benchmark of a GAN round: that the loop does the same, and its page."""

import pytest

from benchmarks import gan, machine, speed
from tff_transfer import runtime


@pytest.mark.slow
def test_the_loop_does_what_a_round_does(monkeypatch):
    monkeypatch.setattr(gan, 'CLIENTS', 2)
    monkeypatch.setattr(gan, 'EXAMPLES', 30)
    with runtime.use_compiled() as compiled:
        ways = gan.steps('server', compiled, compiled, gan.cohort())
        del ways[gan.STOCK]
        start = ways[gan.LOOP]()
        found = ways[gan.OURS]()
        for _ in range(2):
            expected, found = (ways[name]() for name in (gan.LOOP, gan.OURS))
    assert speed.difference(start, expected) > 1e-4
    assert speed.difference(found, expected) < 1e-5


def test_ratios_are_of_the_same_turn():
    ways = {
        gan.OURS: {'seconds': [0.1, 0.2, 0.4], 'apart': 1e-7},
        gan.STOCK: {'seconds': [0.4, 0.6, 0.8], 'apart': 2e-7},
    }
    page = gan.page({'server': ways}, machine.describe())
    assert f'| server | {gan.STOCK} | 0.60 (0.40 to 0.80) | 3.00 | 2e-07 |' in page
    assert f'| server | {gan.OURS} | 0.20 (0.10 to 0.40) | 1.00 | 1e-07 |' in page

"""The benchmark of robust aggregation: what it measures, and its page."""

from benchmarks import machine, robust_aggregation
from tff_transfer.aggregation.robust import Robust


def test_every_rule_is_measured_with_as_many_attackers_as_it_can_assume():
    kinds = robust_aggregation.kinds()
    assert list(kinds)[0] == 'plain' and len(kinds) == 11
    for name, kind in kinds.items():
        if isinstance(kind, Robust):
            kind.check(name, robust_aggregation.CLIENTS)
    assert kinds['bulyan'].attackers == 10
    assert kinds['trimmedmean'].trimmed == 0.1


def test_ratios_are_of_the_same_turn():
    found = {
        'rounds': {
            'plain': [(0.1, 0.2), (0.2, 0.4), (0.4, 0.8)],
            'median': [(0.2, 0.3), (0.5, 0.6), (0.8, 4.8)],
        },
        'ours': {'plain': [0.01], 'median': [0.02, 0.03, 0.04]},
        'flower': {'median': [2.0, 3.0]},
        'apart': {'median': 2e-7},
    }
    page = robust_aggregation.page(found, machine.describe())
    row = '| `median` | 500 (200 to 800) | 2.00 | 1.50 | 30 (20 to 40) |'
    assert f'{row} 2,500 (2,000 to 3,000) | 2e-07 |' in page
    assert '| `plain` | 200 (100 to 400) | 1.00 | 1.00 | 10 |  |  |' in page

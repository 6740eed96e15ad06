"""The benchmark of secure aggregation, of a few clients."""

from benchmarks import machine
from benchmarks import secure_aggregation as benchmark
from benchmarks.secure_aggregation_tables import page
from tff_transfer.secure_aggregation import costs, messages


def test_rows_and_page():
    whole = benchmark.run(benchmark.Case(True, 6, 10))
    exact = costs.of_protocol(6, 10, 5, 32)
    assert (whole['neighbours'], whole['threshold']) == (5, 4)
    assert (whole['up'], whole['down']) == (sum(exact.up), sum(exact.down))
    assert whole['server_bytes'] == exact.server
    fewer = benchmark.run(benchmark.Case(False, 14, 10, 0.15, messages.MASK))
    assert (fewer['neighbours'], fewer['threshold']) == (10, 6)
    # Two of 14 send no vector, and are asked for no shares.
    all_of_them = costs.of_protocol(14, 10, 10, 32)
    left_out = 2 * (sum(all_of_them.up[2:]) + all_of_them.down[2])
    # A share of a key has 16 bytes more: of two with 10 neighbours, or 9 others each.
    more = fewer['server_bytes'] - (all_of_them.server - left_out)
    assert more in (16 * 20, 16 * 18)
    ckks = benchmark.run_ckks(4, 10)
    assert ckks['error'] < 1e-6
    found = page(
        {'sums': [whole, fewer], 'ckks': [ckks], 'flower': []}, machine.describe()
    )
    assert '| complete, 6 x 10 | 5 | 4 |' in found
    assert '| 14 x 10 | 15% | masked input |' in found
    assert "Flower's" not in found


def test_cases_stand_once_and_reach_a_thousand_clients():
    cases = benchmark.cases()
    assert len(set(cases)) == len(cases)
    assert benchmark.Case(False, 1000, 80_000) in cases

"""Flower's own rules of robust aggregation, on arrays that a file holds.

`python flower_aggregation.py RESULT.npz VECTORS.npy RUNS ATTACKERS RULE ...` writes
what each rule gives and the seconds of each run, of the processor.
"""

import os
import sys
import time

os.environ['FLWR_TELEMETRY_ENABLED'] = '0'

import numpy as np
from flwr.app import ArrayRecord, RecordDict
from flwr.server.strategy import aggregate
from flwr.serverapp.strategy.multikrum import select_multikrum


def median(vectors: np.ndarray, attackers: int) -> np.ndarray:
    """Returns `aggregate_median` of the rows."""
    return aggregate.aggregate_median([([row], 1) for row in vectors])[0]


def trimmed_mean(vectors: np.ndarray, attackers: int) -> np.ndarray:
    """Returns `aggregate_trimmed_avg` of the rows."""
    results = [([row], 1) for row in vectors]
    return aggregate.aggregate_trimmed_avg(results, attackers / len(vectors))[0]


def krum(vectors: np.ndarray, attackers: int) -> np.ndarray:
    """Returns the row that `select_multikrum` selects."""
    contents = [RecordDict({'arrays': ArrayRecord([row])}) for row in vectors]
    (best,) = select_multikrum(contents, attackers, 1)
    return best['arrays'].to_numpy_ndarrays()[0]


def bulyan(vectors: np.ndarray, attackers: int) -> np.ndarray:
    """Returns `aggregate_bulyan` of the rows, by its Krum."""
    results = [([row], 1) for row in vectors]
    return aggregate.aggregate_bulyan(
        results, attackers, aggregate.aggregate_krum, to_keep=0
    )[0]


def mean(vectors: np.ndarray, attackers: int) -> np.ndarray:
    """Returns `aggregate` of the rows."""
    return aggregate.aggregate([([row], 1) for row in vectors])[0]


RULES = {
    'plain': mean,
    'median': median,
    'trimmedmean': trimmed_mean,
    'krum': krum,
    'bulyan': bulyan,
}


def main(result: str, path: str, runs: int, attackers: int, names: list[str]) -> None:
    """Runs rules in turn; writes seconds of the processor [runs] and vectors."""
    vectors, found = np.load(path), {}
    seconds = {name: [] for name in names}
    for _ in range(runs):
        for name in names:
            start = time.process_time()
            found[name] = RULES[name](vectors, attackers)
            seconds[name].append(time.process_time() - start)
    times = {f'seconds of {name}': of for name, of in seconds.items()}
    np.savez(result, **found, **times)


if __name__ == '__main__':
    main(*sys.argv[1:3], *map(int, sys.argv[3:5]), sys.argv[5:])

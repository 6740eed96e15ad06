"""What mixed precision saves: rounds in bfloat16 and in float32, by turns.

    python -m benchmarks.compute_dtype head cnn

Prints for each workload the median processor time of a round in both, the median of
the ratios of neighbours, and how far the weights are apart, of the largest change.
"""

import argparse
import time

import numpy as np

from benchmarks import workloads
from benchmarks.peers import tff
from tff_transfer import runtime

ROUNDS = 12


def compare(name: str) -> None:
    """Trains one workload in both dtypes and prints what was seen."""
    work = workloads.WORKLOADS[name]()
    process, data = tff.build_process(work, 'mean'), tff.clients(work, stock=False)

    def flat(state):
        weights = process.get_model_weights(state).trainable
        return np.concatenate([np.ravel(w) for w in weights])

    seconds, states = {None: [], 'bfloat16': []}, {}
    for turn in range(ROUNDS + 1):
        for dtype, times in seconds.items():
            with runtime.use_compiled(compute_dtype=dtype):
                if turn == 0:
                    states[dtype] = tff.initial_state(process, work)
                    first = flat(states[dtype])
                start = time.process_time()
                states[dtype] = process.next(states[dtype], data).state
                times.append(time.process_time() - start)
    # The first round has the tracing.
    single, short = (np.array(times[1:]) for times in seconds.values())
    weights = [flat(state) for state in states.values()]
    largest = np.abs(weights[0] - first).max()
    apart = np.abs(weights[1] - weights[0]).max() / largest
    print(
        f'{name}: float32 {np.median(single) * 1e3:.0f} ms, bfloat16'
        f' {np.median(short) * 1e3:.0f} ms, ratio {np.median(short / single):.2f};'
        f' weights apart {apart:.1e} of the largest change'
    )


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('workloads', nargs='+', choices=list(workloads.WORKLOADS))
    for workload in parser.parse_args().workloads:
        compare(workload)

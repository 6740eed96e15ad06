"""What noise and clipping cost: rounds of each privacy on both runtimes, by turns.

    python -m benchmarks.private_rounds [--turns=3]

Prints for each kind the median processor time of a round, with that of the processes
that a runtime starts, on the compiled and on the stock runtime, and the ratio.
"""

import argparse
import statistics
import time

import numpy as np
import psutil
import tensorflow_federated as tff

from benchmarks import workloads
from benchmarks.peers import tff as peer
from benchmarks.peers import tff_models
from benchmarks.peers.runner import Work
from tff_transfer import models, runtime
from tff_transfer.algorithms import compose, registry
from tff_transfer.algorithms.method import Context
from tff_transfer.privacy import registry as privacy_registry
from tff_transfer.privacy.accounting import Plan

KINDS = {
    'none': {},
    'central': {},
    'tree': {},
    'banded': {},
    'local': {'kind': 'gaussian'},
}
# Rounds of a turn, of which the first counts for nothing: it starts and traces.
ROUNDS = 3
# Cohorts that the clients in turn would make.
GROUPS = 10


def process_of(kind: str, work: Work) -> tff.templates.IterativeProcess:
    """Makes federated averaging of a workload with one kind of privacy."""
    sgd = tff.learning.optimizers.build_sgdm
    model = models.from_keras(tff_models.keras_network(work))
    context = Context(model, sgd(work.learning_rate), sgd(1.0), weighting='uniform')
    factory, cohort = None, None
    if kind != 'none':
        of = privacy_registry.options(kind)(noise_multiplier=1.0, **KINDS[kind])
        size = sum(np.size(weight) for weight in context.initial)
        plan = Plan(GROUPS * work.clients, work.clients, 50, size)
        mechanism = of.mechanism(plan)
        factory, cohort = of.aggregator(mechanism), mechanism.cohort
    method = registry.options('fedavg')().build(context)
    return compose.compose(method, context, factory, cohort=cohort).process


def processor_time() -> float:
    """Returns seconds of this process, all its threads, and of those it started."""
    of_others = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        of_others += times.user + times.system
    return time.process_time() + of_others


def measure(turns: int) -> dict[str, dict[str, list[float]]]:
    """Returns processor times by runtime and kind."""
    work = workloads.WORKLOADS['head']()
    found = {}
    processes = {kind: process_of(kind, work) for kind in KINDS}
    uses = {
        'compiled': lambda: runtime.use_compiled(seed=0),
        'stock': runtime.use_stock,
    }
    for _ in range(turns):
        for name, use in uses.items():
            clients = peer.clients(work, stock=name == 'stock')
            with use():
                for kind, process in processes.items():
                    state = process.initialize()
                    for number in range(ROUNDS):
                        start = processor_time()
                        state = process.next(state, clients).state
                        if number:
                            seconds = processor_time() - start
                            times = found.setdefault(name, {}).setdefault(kind, [])
                            times.append(seconds)
    return found


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--turns', type=int, default=3, help='Of both runtimes.')
    medians = {
        name: {kind: statistics.median(times) for kind, times in of_kinds.items()}
        for name, of_kinds in measure(parser.parse_args().turns).items()
    }
    print('| privacy | compiled, ms | stock, ms | ratio |\n|---|--:|--:|--:|')
    for kind, ours in medians['compiled'].items():
        theirs = medians['stock'][kind]
        print(
            f'| {kind} | {1e3 * ours:.0f} | {1e3 * theirs:.0f} | {theirs / ours:.1f} |'
        )

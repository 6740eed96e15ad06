"""Two nodes of one processor beside the compiled runtime on two, and more thought up.

  python -m benchmarks.cluster

starts a Ray cluster of two nodes on this machine's loopback, runs the rounds of `head`,
`cnn` and `finetune_all` on it and on the compiled runtime by turns in one process,
compares their weights to the last bit, and counts the bytes that travel. The features
of `cached_head` lie in a file, as those of a run of `experiments.emnist_fedavg` do;
those of `head` in the driver's memory. What 10 and 100 nodes would do is then computed
from these figures (cluster_model.py). It writes `benchmarks/results/cluster.md` and
`.json`, and `docs/images/cluster.png`.
"""

import argparse
import collections
import contextlib
import dataclasses
import itertools
import json
import pathlib
import statistics
import tempfile
import time

import matplotlib.figure
import numpy as np
import psutil
import tensorflow_federated as tff

from benchmarks import cluster_model, machine, speed, workloads
from benchmarks.cluster_model import Network, Round
from benchmarks.peers import tff as peer
from experiments import local_nodes
from tff_transfer import files, progress, randomness, runtime
from tff_transfer.data.cohorts import Cohort
from tff_transfer.data.rows import PreparedRows
from tff_transfer.features.scaling import Standardisation

ROUNDS = {'cached_head': 41, 'head': 21, 'cnn': 21, 'finetune_all': 4}
COMPILED, CLUSTER = 'compiled, two threads', 'cluster, two nodes of one processor'
NODES = (1, 2, 4, 8, 10, 16, 32, 64, 100)
GIGABIT = 125e6
NETWORKS = {
    'one rack: 10 Gbit/s, 0.1 ms': Network(1e-4, 10 * GIGABIT),
    'one site: 1 Gbit/s, 1 ms': Network(1e-3, GIGABIT),
    'far: 1 Gbit/s, 20 ms': Network(2e-2, GIGABIT),
}
# A workload whose features lie in a file.
CACHED = 'cached_'
PICTURE = pathlib.Path('docs/images/cluster.png')


def by_turns(process, state, cohort, contexts, rounds: int) -> dict[str, dict]:
    """Runs rounds in two contexts by turns; returns seconds and bytes of each.

    Also processor seconds, of this process and of all that it started: Ray's too.

    Raises:
      AssertionError: Their weights differ.
    """
    kinds = 'seconds', 'moved', 'driver', 'others'
    records = {name: {kind: [] for kind in kinds} for name in contexts}
    states = dict.fromkeys(contexts, state)
    stack = tff.framework.get_context_stack()
    for number in range(rounds):
        # Whoever is first finds caches as the other left them.
        for name in list(contexts)[:: 1 if number % 2 else -1]:
            moved = _moved(contexts[name])
            before = dict(moved)
            with stack.install(contexts[name]):
                start = time.perf_counter(), time.process_time(), _others()
                states[name] = process.next(states[name], cohort).state
                end = time.perf_counter(), time.process_time(), _others()
            spent = (b - a for a, b in zip(start, end, strict=True))
            for kind, value in zip(('seconds', 'driver', 'others'), spent, strict=True):
                records[name][kind].append(value)
            records[name]['moved'].append(
                {kind: moved[kind] - before.get(kind, 0) for kind in moved}
            )
        weights = [process.get_model_weights(s).trainable for s in states.values()]
        for one, other in zip(*weights, strict=True):
            np.testing.assert_array_equal(one, other)
    return records


def _call(handle) -> float:
    """Returns the driver's processor seconds for a call without data."""
    import ray

    start = time.process_time()
    for _ in range(100):
        ray.get(handle.forget.remote(-1))
    return (time.process_time() - start) / 100


def _others() -> float:
    """Returns the processor seconds of all processes that this one started."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # It has ended.
            total += sum(child.cpu_times()[:2])
    return total


def _processor(record: dict) -> float:
    """Returns a round's processor seconds, a mean: of others it counts in 10 ms."""
    return statistics.fmean(record['driver'][1:]) + statistics.fmean(
        record['others'][1:]
    )


def _moved(context) -> collections.Counter:
    return getattr(context._compiled._executor, 'moved', collections.Counter())


def in_file(cohort: Cohort, folder: pathlib.Path) -> Cohort:
    """Returns a cohort whose features lie in a file, each client's in drawn order."""
    np.save(folder / 'features.npy', cohort.examples['x'])
    stored = np.load(folder / 'features.npy', mmap_mode='r')
    rows = np.arange(len(stored))
    for client, (first, last) in enumerate(itertools.pairwise(cohort.row_splits)):
        randomness.generator(0, 'rows', client).shuffle(rows[first:last])
    x = PreparedRows(stored, rows, Standardisation(np.float32(0), np.float32(1)))
    y = cohort.examples['y'][rows]
    examples = collections.OrderedDict(x=x, y=y)
    return dataclasses.replace(cohort, examples=examples)


def measure(name: str, rounds: int) -> dict[str, dict]:
    """Measures a workload; then cohorts of one example a client, for what is fixed."""
    work = workloads.WORKLOADS[name.removeprefix(CACHED)]()
    cohort = peer.clients(work, stock=False)
    process = peer.build_process(work, 'mean')
    store = 2 * work.x.nbytes + 300 * 2**20
    with (
        tempfile.TemporaryDirectory() as folder,
        local_nodes.opened(2, store_bytes=store) as nodes,
        runtime.use_cluster(nodes.address) as cluster,
        runtime.use_compiled(threads=2) as compiled,
    ):
        contexts = {COMPILED: compiled, CLUSTER: cluster}
        state = peer.initial_state(process, work)
        if name.startswith(CACHED):
            cohort = in_file(cohort, pathlib.Path(folder))
        found = by_turns(process, state, cohort, contexts, rounds)
        firsts = work.row_splits[:-1]
        examples = {'x': work.x[firsts], 'y': work.y[firsts]}
        few = Cohort(collections.OrderedDict(examples), np.arange(work.clients + 1), 20)
        fixed = by_turns(process, state, few, contexts, 2 + rounds // 2)
        call = _call(cluster._compiled._executor._workers.ready[0].handle)
    weights = sum(w.nbytes for w in work.weights)
    return {
        **found,
        'fixed': fixed,
        'call': call,
        'clients': work.clients,
        'weights': weights,
    }


def thought_up(record: dict) -> Round:
    """Returns what a round takes, as it was measured.

    Seconds are the driver's processor seconds, which hang less on what else runs. A
    sum of clients is taken to be of the weights' size, and a merge for NumPy's sum of
    two such arrays.
    """
    fixed = {
        name: statistics.median(record['fixed'][name]['driver'][1:])
        for name in (COMPILED, CLUSTER)
    }
    alone = statistics.median(record[COMPILED]['driver'][1:])
    moved = record[CLUSTER]['moved'][-1]
    a, b = np.ones([2, record['weights'] // 4], np.float32)
    start = time.perf_counter()
    for _ in range(5):
        a += b
    return Round(
        compute=max(alone - fixed[COMPILED], 0.0),
        sent=moved['clients'],
        broadcast=moved['broadcast'] / 2,
        state=record['weights'],
        server=max(fixed[CLUSTER] - 2 * record['call'], 0.0),
        call=record['call'],
        merge=(time.perf_counter() - start) / 5,
    )


def blocks_of(nodes: int, clients: int) -> int:
    """Returns how many blocks are made for so many nodes, by a smaller `block_bytes`.

    They are eight at least, and no more than clients.
    """
    return min(max(8, nodes), clients)


def plot(rounds: dict[str, tuple[Round, int]], path: pathlib.Path) -> None:
    """Draws how many times as fast as one node some nodes are.

    Args:
      rounds: Of each workload what a round takes, and its clients.
      path: Where the picture goes.
    """
    figure = matplotlib.figure.Figure((11, 3.8), layout='constrained')
    all_axes = figure.subplots(1, len(NETWORKS), sharey=True)
    for axes, (name, network) in zip(all_axes, NETWORKS.items(), strict=True):
        axes.plot(NODES, NODES, ':', color='grey', label='as many times')
        for label, (of, clients) in rounds.items():
            took = [
                cluster_model.seconds(of, network, n, blocks_of(n, clients))
                for n in NODES
            ]
            axes.plot(NODES, took[0] / np.array(took), '.-', label=label)
        axes.set(xscale='log', yscale='log', xlabel='nodes of one processor')
        axes.set_title(name, fontsize='medium')
        axes.grid(which='major', alpha=0.3)
    all_axes[0].set_ylabel('times as fast as one node')
    all_axes[0].legend(fontsize='small')
    with files.replacing(path) as new:
        figure.savefig(new, dpi=120, format='png')


def page(records: dict[str, dict], described: dict) -> str:
    """Returns the measurements as a page in Markdown."""
    lines = [
        '# cluster',
        '',
        'Two nodes of one processor on loopback, by turns with the compiled runtime on'
        ' two threads, in one process; medians of the rounds after the first, in'
        ' brackets the fastest and the slowest. The overhead is the median over rounds'
        ' of the difference, and of the ratio, of two times of the same turn. Weights'
        ' were the same to the last bit after each round.',
        '',
        '| | compiled, s | cluster, s | overhead | ratio | of a cohort of one example a'
        ' client | processor seconds: compiled, cluster | MB to nodes: examples,'
        ' broadcast | MB back |',
        '|---|--:|--:|--:|--:|--:|--:|--:|--:|',
    ]
    for name, record in records.items():
        alone, on_nodes = (
            np.array(record[key]['seconds'][1:]) for key in (COMPILED, CLUSTER)
        )
        fixed = [
            np.array(record['fixed'][key]['seconds'][1:]) for key in (COMPILED, CLUSTER)
        ]
        moved = record[CLUSTER]['moved'][-1]
        lines.append(
            f'| {name} | {_spread(alone)} | {_spread(on_nodes)} |'
            f' {np.median(on_nodes - alone) * 1e3:.0f} ms |'
            f' {np.median(on_nodes / alone):.2f} |'
            f' {np.median(fixed[1] - fixed[0]) * 1e3:.0f} ms |'
            f' {_processor(record[COMPILED]):.3f}, {_processor(record[CLUSTER]):.3f} |'
            f' {moved["clients"] / 1e6:.1f}, {moved["broadcast"] / 1e6:.1f} |'
            f' {moved["answers"] / 1e6:.1f} |'
        )
    rounds = {n: (thought_up(r), r['clients']) for n, r in records.items()}
    lines += [
        '',
        'What more nodes would do, computed (cluster_model.py) from: seconds of one'
        ' processor for all clients, of the driver whatever they do, and for a call;'
        ' milliseconds for merging a block. As many blocks as nodes, at least eight,'
        ' and no more than clients (heads 100, the others 10).',
        '',
        '| | clients | driver | a call | a merge, ms |',
        '|---|--:|--:|--:|--:|',
    ]
    lines += [
        f'| {n} | {r.compute:.3f} | {r.server:.4f} | {r.call:.5f} |'
        f' {r.merge * 1e3:.2f} |'
        for n, (r, _) in rounds.items()
    ]
    lines += ['', f'| seconds a round | {" | ".join(f"{n} nodes" for n in NODES)} |']
    lines += ['|---' + '|--:' * len(NODES) + '|']
    for network, of_network in NETWORKS.items():
        for name, (of, clients) in rounds.items():
            took = [
                cluster_model.seconds(of, of_network, n, blocks_of(n, clients))
                for n in NODES
            ]
            cells = ' | '.join(f'{t:.3f}' for t in took)
            lines.append(f'| {name}, {network} | {cells} |')
    lines += [
        '',
        '![times as fast as one node](../../docs/images/cluster.png)',
        '',
        machine.sentence(described),
        '',
    ]
    return '\n'.join(lines)


def _spread(seconds: np.ndarray) -> str:
    return f'{np.median(seconds):.3f} ({seconds.min():.3f}, {seconds.max():.3f})'


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('workloads', nargs='*', default=list(ROUNDS))
    options = parser.parse_args()
    described = machine.describe()
    records = {}
    for name in progress.bar(options.workloads, desc='cluster'):
        records[name] = measure(name, ROUNDS[name])
    rows = {
        f'{name}, {key}': record[key]
        for name, record in records.items()
        for key in (COMPILED, CLUSTER)
    }
    fixed = {name: record['fixed'] for name, record in records.items()}
    text = json.dumps({'machine': described, 'records': rows, 'fixed': fixed}, indent=1)
    files.write_text(speed.RESULTS / 'cluster.json', text + '\n')
    plot(
        {n: (thought_up(r), r['clients']) for n, r in records.items()},
        speed.ROOT / PICTURE,
    )
    report = page(records, described)
    files.write_text(speed.RESULTS / 'cluster.md', report)
    print(report)


if __name__ == '__main__':
    main()

"""Robust aggregation: seconds of each rule, alone and in a round, and of Flower's.

  python -m benchmarks.robust_aggregation

combines 80,000 numbers of each of 100 clients by each rule, on the compiled runtime and
by Flower's own functions on the same arrays, in turn; and trains a head (100 clients x
100 x 1,280 features to 62 classes) with each rule, in turn with the plain mean, in one
process. Ratios are medians over turns of two times of the same turn, since the load of
a shared machine changes. Takes some minutes; writes
`benchmarks/results/robust_aggregation.md`.
"""

import pathlib
import statistics
import subprocess
import time

import numpy as np
import tensorflow_federated as tff

from benchmarks import machine, speed, workloads
from benchmarks.peers import tff as peer
from benchmarks.peers import tff_models
from tff_transfer import algorithms, models, progress, randomness, runtime
from tff_transfer.aggregation.plain import Plain
from tff_transfer.aggregation.registry import KINDS
from tff_transfer.aggregation.robust import Robust
from tff_transfer.algorithms.public_examples import PublicExamples

CLIENTS, LENGTH, ATTACKERS = 100, 80_000, 10
TURNS, RUNS, ROUNDS = 3, 3, 9
# What Flower has. Its Bulyan computes all distances anew for each choice: run once.
OF_FLOWER, ONCE = ('plain', 'median', 'trimmedmean', 'krum'), ('bulyan',)


def kinds() -> dict:
    """Returns the options of the mean and of each rule, by name."""
    found = {'plain': Plain()}
    for name in KINDS.NAMES:
        kind = KINDS.options(name)
        if issubclass(kind, Robust):
            given = {'attackers': ATTACKERS, 'trimmed': ATTACKERS / CLIENTS}
            fields = kind.__dataclass_fields__
            found[name] = kind(**{n: v for n, v in given.items() if n in fields})
    return found


def factory(kind) -> tff.aggregators.WeightedAggregationFactory:
    """Returns a kind's factory."""
    if isinstance(kind, Plain):
        return tff.aggregators.MeanFactory(no_nan_division=True)
    return kind.aggregator(CLIENTS, 0)


def alone(vectors: np.ndarray, folder: pathlib.Path) -> dict:
    """Returns the processor's seconds of rules, and how far Flower's results are.

    Args:
      vectors: float32 [clients, length].
      folder: An empty folder.
    """
    of = tff.types.to_type((np.float32, [vectors.shape[1]]))
    weight, ones = tff.TensorType(np.float32), np.ones(len(vectors), np.float32)
    seconds, theirs, results, runs = {}, {}, {}, {}
    for name, kind in kinds().items():
        made = factory(kind)
        if getattr(made, 'remembers', False) or getattr(made, 'needs_reference', False):
            continue  # These take more than updates.
        process = made.create(of, weight)
        runs[name] = process, process.initialize()
        seconds[name] = []
    np.save(folder / 'vectors.npy', vectors)
    stacked = runtime.StackedClients(vectors), runtime.StackedClients(ones)
    for turn in progress.bar(range(TURNS), desc='alone'):
        for _ in range(RUNS + (turn == 0)):
            for name, (process, state) in runs.items():
                start = time.process_time()
                results[name] = process.next(state, *stacked).result
                seconds[name].append(time.process_time() - start)
        for name, spent, result in flower(folder, OF_FLOWER, RUNS):
            theirs.setdefault(name, []).extend(spent)
            results[f'Flower {name}'] = result
    for name, spent, result in flower(folder, ONCE, 1):
        theirs[name], results[f'Flower {name}'] = spent, result
    apart = {
        name: float(np.abs(results[f'Flower {name}'] - results[name]).max())
        for name in theirs
    }
    # The first run compiles.
    ours = {name: spent[1:] for name, spent in seconds.items()}
    return {'ours': ours, 'flower': theirs, 'apart': apart}


def flower(folder: pathlib.Path, names: tuple[str, ...], runs: int):
    """Yields the name, the seconds and the result of Flower's rules, if it is here."""
    if not pathlib.Path(speed.TORCH).exists():
        return
    script, result = speed.PEERS / 'flower_aggregation.py', folder / 'flower.npz'
    vectors = folder / 'vectors.npy'
    command = [speed.TORCH, script, result, vectors, runs, ATTACKERS, *names]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    with np.load(result) as found:
        for name in names:
            yield name, found[f'seconds of {name}'].tolist(), found[name]


def in_rounds() -> dict[str, list[tuple[float, float]]]:
    """Returns the seconds of rounds of a head with each rule, in turn.

    Returns:
      By rule, of each round, the seconds of the clock and of the processor.
    """
    work = workloads.head([100] * CLIENTS)
    cohort = peer.clients(work, stock=False)
    network = models.from_keras(tff_models.keras_network(work))
    first = {name: rows[:100] for name, rows in cohort.examples.items()}
    public = PublicExamples(first, work.batch_size, 1, 0)
    runs, seconds = {}, {}
    for name, kind in kinds().items():
        made = algorithms.process(
            algorithms.FedAvg(),
            network,
            weighting='uniform',
            aggregator=factory(kind),
            public=public,
        )
        kept = ()
        if made.kept is not None:
            fields = [
                np.repeat(leaf[None], CLIENTS, 0) if np.size(leaf) else leaf
                for leaf in made.kept
            ]
            kept = (runtime.StackedClients(type(made.kept)(*fields)),)
        runs[name] = made.process, made.process.initialize(), kept
        seconds[name] = []
    for _ in progress.bar(range(ROUNDS + 1), desc='rounds'):
        for name, (process, state, kept) in runs.items():
            start = time.perf_counter(), time.process_time()
            process.next(state, cohort, *kept)
            end = time.perf_counter(), time.process_time()
            seconds[name].append(tuple(np.subtract(end, start).tolist()))
    return {name: spent[1:] for name, spent in seconds.items()}


def measure(folder: pathlib.Path) -> dict:
    """Runs everything; returns what was seen.

    Args:
      folder: An empty folder.
    """
    draw = randomness.generator(0, 'benchmark of robust aggregation')
    vectors = draw.standard_normal((CLIENTS, LENGTH), np.float32)
    with runtime.use_compiled():
        return {'rounds': in_rounds(), **alone(vectors, folder)}


def _ms(spent: list[float] | None) -> str:
    if not spent:
        return ''
    low, high = min(spent) * 1e3, max(spent) * 1e3
    spread = f' ({low:,.0f} to {high:,.0f})' if len(spent) > 1 else ''
    return f'{statistics.median(spent) * 1e3:,.0f}{spread}'


def page(found: dict, described: dict) -> str:
    """Returns the measurement as a page in Markdown."""
    rounds, ours, theirs = found['rounds'], found['ours'], found['flower']
    rows = []
    for name, spent in rounds.items():
        ratios = np.median(np.array(spent) / np.array(rounds['plain']), axis=0)
        rows.append(
            (
                f'`{name}`',
                _ms([clock for clock, _ in spent]),
                *(f'{ratio:.2f}' for ratio in ratios),
                _ms(ours.get(name)),
                _ms(theirs.get(name)),
                f'{found["apart"][name]:.0e}' if name in found['apart'] else '',
            )
        )
    lines = [
        '# robust aggregation',
        '',
        'Milliseconds, medians (fastest to slowest). A round: FedAvg of a head of'
        f' 79,422 weights, {CLIENTS} clients x 100 examples x 1,280 features, {ROUNDS}'
        ' rounds of each in turn; by the mean: its time by that of a round with the'
        ' plain mean, by the clock and by the processor. Alone, time of the processor:'
        f' {CLIENTS} vectors of {LENGTH:,} numbers in memory, {TURNS} x {RUNS} runs in'
        ' turn; Flower (`flwr` 1.41.0) on the same arrays, in a process of its own'
        ' between them, with what its functions take and give; apart: how far its'
        f' results are from ours at most. {ATTACKERS} attackers are assumed.',
        '',
        '| | a round | by the mean | processor | alone | Flower alone | apart |',
        '| --- | --: | --: | --: | --: | --: | --: |',
        *(f'| {" | ".join(row)} |' for row in rows),
        '',
        machine.sentence(described),
        '',
    ]
    return '\n'.join(lines)


def main() -> None:
    """Measures and writes."""
    machine.report(speed.RESULTS / 'robust_aggregation.md', measure, page)


if __name__ == '__main__':
    main()

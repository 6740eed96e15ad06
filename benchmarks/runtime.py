"""How a compiled round grows with clients and examples, and evaluation of many clients.

  python -m benchmarks.runtime growth evaluation --rounds=5

writes `benchmarks/results/runtime_growth.md` and `.png`, and
`benchmarks/results/runtime_evaluation.md`. Each figure is measured in a process of
its own, so that its peak of resident memory is its own too.
"""

import argparse
import collections
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time

import numpy as np

from benchmarks import machine
from tff_transfer import files

RESULTS = pathlib.Path(__file__).resolve().parent / 'results'
FEATURES, CLASSES, BATCH = 1280, 62, 20
CLIENTS = (10, 100, 1000, 10_000)
EXAMPLES = (10, 100, 1000)
EVALUATED_CLIENTS = 400


def _cohort(clients: int, examples: int):
    from tff_transfer.data.cohorts import Cohort
    from tff_transfer.runtime.tensors import aligned_empty

    draw = np.random.default_rng(0)
    x = aligned_empty((clients * examples, FEATURES), np.float32)
    for start in range(0, len(x), 10_000):
        draw.standard_normal(dtype=np.float32, out=x[start : start + 10_000])
    y = draw.integers(0, CLASSES, len(x)).astype(np.int32)
    splits = np.arange(clients + 1) * examples
    return Cohort(collections.OrderedDict(x=x, y=y), splits, BATCH)


def _model():
    import tensorflow as tf
    import tensorflow_federated as tff

    network = tf.keras.Sequential(
        [
            tf.keras.layers.Input((FEATURES,)),
            tf.keras.layers.Dense(CLASSES, kernel_initializer='zeros'),
        ]
    )
    spec = collections.OrderedDict(
        x=tf.TensorSpec([None, FEATURES]), y=tf.TensorSpec([None], tf.int32)
    )
    return tff.learning.models.functional_model_from_keras(
        network,
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        spec,
        metrics_constructor=lambda: collections.OrderedDict(
            accuracy=tf.keras.metrics.SparseCategoricalAccuracy()
        ),
    )


def measure(task: str, runtime: str, clients: int, examples: int, rounds: int) -> dict:
    """Runs one process and returns its figures.

    Args:
      task: `train` or `evaluate`.
      runtime: `compiled` or `stock`.
      clients: How many there are.
      examples: How many each has.
      rounds: How many rounds are timed, after one that is not.

    Returns:
      `seconds` of each round, and the peak of resident memory in GiB, `peak`.
    """
    import tensorflow_federated as tff

    from tff_transfer import runtime as runtimes

    learning = tff.learning
    if task == 'train':
        process = learning.algorithms.build_weighted_fed_avg(
            _model(),
            learning.optimizers.build_sgdm(0.1),
            learning.optimizers.build_sgdm(1.0),
        )
    else:
        process = learning.algorithms.build_fed_eval(_model())
    data = _cohort(clients, examples)
    use = {'compiled': runtimes.use_compiled, 'stock': runtimes.use_stock}[runtime]
    if runtime == 'stock':
        data = list(data)
    seconds = []
    with use():
        state = process.initialize()
        for _ in range(rounds + 1):
            start = time.perf_counter()
            state = process.next(state, data).state
            seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {'seconds': seconds[1:], 'peak': peak}


def _in_own_process(*arguments) -> dict:
    command = [sys.executable, '-m', 'benchmarks.runtime', 'one', *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    figures = json.loads(done.stdout.splitlines()[-1])
    print(*arguments, figures, flush=True)
    return figures


def _row(label: str, figures: dict) -> str:
    s = figures['seconds']
    return (
        f'| {label} | {statistics.median(s):.4f} | {min(s):.4f}, {max(s):.4f} |'
        f' {figures["peak"]:.2f} |'
    )


_HEADER = [
    '| | seconds | fastest, slowest | peak resident memory, GiB |',
    '|---|--:|--:|--:|',
]


def growth(rounds: int) -> None:
    """Measures rounds of more and more clients, and of more and more examples."""
    described = machine.describe()
    by_clients = {
        n: _in_own_process('train', 'compiled', n, 100, rounds) for n in CLIENTS
    }
    by_examples = {
        n: _in_own_process('train', 'compiled', 100, n, rounds) for n in EXAMPLES
    }
    slope = np.polyfit(
        list(by_clients), [min(f['seconds']) for f in by_clients.values()], 1
    )[0]
    lines = [
        '# Growth of a compiled round',
        '',
        f'Federated averaging of a linear softmax model, {FEATURES:,} features to'
        f' {CLASSES} classes, batches of {BATCH}, one epoch; median of {rounds}'
        ' rounds after the first. 100 examples a client hold'
        f' {100 * FEATURES * 4 / 2**20:.2f} MiB.',
        '',
        *_HEADER,
        *(_row(f'{n:,} clients x 100 examples', f) for n, f in by_clients.items()),
        *(_row(f'100 clients x {n:,} examples', f) for n, f in by_examples.items()),
        '',
        f'The slope of a line through the fastest rounds: {slope * 1e3:.3f} ms for each'
        ' client with 100 examples.',
        '',
        machine.sentence(described),
        '',
        '![seconds against clients and examples](runtime_growth.png)',
        '',
    ]
    files.write_text(RESULTS / 'runtime_growth.md', '\n'.join(lines))
    _plot(by_clients, by_examples)


def _plot(by_clients: dict, by_examples: dict) -> None:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.5), layout='constrained')
    for axis, points, label in [
        (axes[0], by_clients, 'clients with 100 examples each'),
        (axes[1], by_examples, 'examples of each of 100 clients'),
    ]:
        for name, pick in [('median', statistics.median), ('fastest', min)]:
            axis.loglog(
                list(points),
                [pick(f['seconds']) for f in points.values()],
                marker='o',
                label=name,
            )
        axis.set(xlabel=label, ylabel='seconds a round')
        axis.legend()
    with files.replacing(RESULTS / 'runtime_growth.png') as new:
        figure.savefig(new, dpi=90)


def evaluation(rounds: int) -> None:
    """Measures evaluation of many clients on both runtimes, side by side."""
    described = machine.describe()
    figures = {
        name: _in_own_process('evaluate', name, EVALUATED_CLIENTS, 100, rounds)
        for name in ('compiled', 'stock')
    }
    medians = {name: statistics.median(f['seconds']) for name, f in figures.items()}
    lines = [
        '# Evaluation',
        '',
        f'`build_fed_eval` of {EVALUATED_CLIENTS} clients with 100 examples each, a'
        f' linear softmax model, {FEATURES:,} features to {CLASSES} classes, batches of'
        f' {BATCH}; median of {rounds} evaluations after the first.',
        '',
        *_HEADER,
        *(_row(name, f) for name, f in figures.items()),
        '',
        f'Stock takes {medians["stock"] / medians["compiled"]:.1f} times as long. The'
        " memory of stock's worker process is not counted.",
        '',
        machine.sentence(described),
        '',
    ]
    files.write_text(RESULTS / 'runtime_evaluation.md', '\n'.join(lines))


def main() -> None:
    """Measures what the command line asks for."""
    if sys.argv[1:2] == ['one']:
        task, runtime, *numbers = sys.argv[2:]
        print(json.dumps(measure(task, runtime, *map(int, numbers))))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('tables', nargs='+', choices=['growth', 'evaluation'])
    parser.add_argument('--rounds', type=int, default=5)
    options = parser.parse_args()
    for table in options.tables:
        {'growth': growth, 'evaluation': evaluation}[table](options.rounds)


if __name__ == '__main__':
    main()

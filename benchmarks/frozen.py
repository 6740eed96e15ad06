"""What frozen parts cost: once for all rounds, beside in every step.

  python -m benchmarks.frozen

trains a head from raw images, by features that are extracted once and as TFF's
tutorials do it, and the top of a backbone on cached activations and under raw images,
each in a process of its own, and writes `benchmarks/results/frozen.md` and `.json`.
"""

import argparse
import json
import pathlib
import sys
import tempfile

from benchmarks import machine, speed, workloads
from benchmarks.frozen_tables import CACHED, OURS, STOCK, WHOLE, median_run, page
from tff_transfer import files, progress

REAL = speed.ROOT.parent / 'shared' / 'data' / 'mobilenet_v2_035_feature_vector'
CLIENTS, IMAGES, POPULATIONS = 10, 100, (10, 100)
TOP_LAYERS = (2, 6, 12)
# Ours takes seconds, which a busy moment of the host could double: runs before and
# after TFF's own, of which the one with the median time counts.
RUNS = ('compiled',) * 2 + ('stock',) + ('compiled',) * 3


def _runner(name: str, module: str, *options: str) -> speed.Runner:
    command = (sys.executable, '-m', f'benchmarks.peers.{module}')
    return speed.Runner(name, command, options)


def _run(work, runners, rounds, limit_s: float) -> list[dict]:
    """Runs each runner, for its number of rounds; adds `name` and `weights`."""
    records = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        work.save(folder / 'work')
        for runner, count in zip(runners, rounds, strict=True):
            place = folder / f'run{len(records)}'
            place.mkdir()
            record = speed.run(runner, folder / 'work', count, place, limit_s)
            records.append({'name': runner.name, **record})
    return records


def measure_head(
    backbone: str, rounds: int, stock_rounds: int, limit_s: float
) -> list[dict]:
    """Trains a head from raw images, on both populations.

    Args:
      backbone: Its handle.
      rounds: Rounds.
      stock_rounds: How many of them TFF's own runtime does.
      limit_s: When to give up on one.

    Returns:
      Of each of the two what `speed.run` gives, its seconds being those before the
      first round and of each round, with `name`, `population`, `rounds`, the
      `whole_times` of all its runs and, for TFF's, the `difference` of the heads after
      each round that both did.
    """
    runners = {
        runtime: _runner(
            name,
            'frozen_head',
            f'--runtime={runtime}',
            f'--backbone={backbone}',
            f'--clients_per_round={CLIENTS}',
        )
        for name, runtime in ((OURS, 'compiled'), (STOCK, 'stock'))
    }
    found = []
    for population in progress.bar(POPULATIONS, desc='head'):
        done = _run(
            workloads.images([IMAGES] * population),
            [runners[which] for which in RUNS],
            [stock_rounds if which == 'stock' else rounds for which in RUNS],
            limit_s,
        )
        done = [{**r, 'population': population, 'rounds': rounds} for r in done]
        records = [
            median_run([r for r in done if r['name'] == n]) for n in (OURS, STOCK)
        ]
        heads = [record.pop('weights', None) for record in records]
        if None not in heads:
            ours, stock = heads
            records[1]['difference'] = speed.difference(
                stock, [array[:stock_rounds] for array in ours]
            )
        for record in records:
            found.append(record)
            print(population, record['name'], speed.summary(record), flush=True)
    return found


def measure_top(backbone: str, rounds: int, limit_s: float) -> list[dict]:
    """Trains the top with and without cached activations, for each cut.

    Args:
      backbone: Its handle.
      rounds: Rounds, the first one included.
      limit_s: When to give up on one.

    Returns:
      Of each run what `speed.run` gives, with `name`, `top_layers`, the floating-point
      `operations` of one image below and above the cut and, without the cache, the
      `difference` of the weights after the last round.
    """
    found = []
    for top_layers in progress.bar(TOP_LAYERS, desc='top'):
        records = _run(
            workloads.images([IMAGES] * CLIENTS),
            [
                _runner(
                    name,
                    'frozen_top',
                    f'--inputs={inputs}',
                    f'--backbone={backbone}',
                    f'--top_layers={top_layers}',
                )
                for name, inputs in ((CACHED, 'activations'), (WHOLE, 'images'))
            ],
            (rounds, rounds),
            limit_s,
        )
        weights = [record.pop('weights', None) for record in records]
        if None not in weights:
            records[1]['difference'] = speed.difference(weights[1], weights[0])
        for record in records:
            found.append({**record, 'top_layers': top_layers})
            print(top_layers, record['name'], speed.summary(record), flush=True)
    return _with_operations(found, backbone)


def _with_operations(records: list[dict], handle: str) -> list[dict]:
    # Only now: TensorFlow would take memory and threads beside what is measured.
    from benchmarks.peers import frozen_top, tff_models

    backbone = tff_models.backbone(handle)
    counts = {
        top_layers: frozen_top.forward_operations(backbone, top_layers, (28, 28, 1))
        for top_layers in TOP_LAYERS
    }
    return [{**r, 'operations': counts[r['top_layers']]} for r in records]


def main() -> None:
    """Measures and writes what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--backbone',
        default=str(REAL) if REAL.is_dir() else 'MobileNetV2_035',
        help='a SavedModel, or a network of tf.keras.applications by name',
    )
    parser.add_argument('--rounds', type=int, default=20, help='of the head')
    parser.add_argument('--stock_rounds', type=int, help='of them on stock TFF')
    parser.add_argument('--top_rounds', type=int, default=6, help='with the first')
    parser.add_argument('--limit', type=float, default=1800, help='seconds for one')
    options = parser.parse_args()
    stock_rounds = options.stock_rounds or options.rounds
    if not 2 <= stock_rounds <= options.rounds or options.top_rounds < 2:
        parser.error('two rounds at least; of stock TFF no more than of ours')
    described = machine.describe()
    measured = {
        'machine': described,
        'backbone': pathlib.Path(options.backbone).name,
        'clients': CLIENTS,
        'images': IMAGES,
        'head': measure_head(
            options.backbone, options.rounds, stock_rounds, options.limit
        ),
        'top': measure_top(options.backbone, options.top_rounds, options.limit),
    }
    report = page(measured)
    text = json.dumps(measured, indent=1) + '\n'
    files.write_text(speed.RESULTS / 'frozen.json', text)
    files.write_text(speed.RESULTS / 'frozen.md', report)
    print(report)


if __name__ == '__main__':
    main()

"""What frozen parts cost: once for all rounds, beside in every step.

  python -m benchmarks.frozen

trains a head from raw images, by features that are extracted once and as TFF's
tutorials do it, and the top of a backbone on cached activations and under raw images,
each in a process of its own, and writes `benchmarks/results/frozen.md` and `.json`.
"""

import argparse
import json
import pathlib
import statistics
import sys
import tempfile

from benchmarks import machine, speed, workloads
from tff_transfer import files, progress

REAL = speed.ROOT.parent / 'shared' / 'data' / 'mobilenet_v2_035_feature_vector'
CLIENTS, IMAGES, POPULATIONS = 10, 100, (10, 100)
TOP_LAYERS = (2, 6, 12)
# Ours takes seconds, which a busy moment of the host could double: runs before and
# after TFF's own, of which the one with the median time counts.
RUNS = ('compiled',) * 2 + ('stock',) + ('compiled',) * 3
OURS, STOCK = 'features once, compiled', 'tutorial, stock TFF'
CACHED, WHOLE = 'cached activations', 'raw images'


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
        records = [median([r for r in done if r['name'] == n]) for n in (OURS, STOCK)]
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


def median(records: list[dict]) -> dict:
    """Returns of several runs the one of the median whole time, or one that failed."""
    for record in records:
        if 'error' in record:
            return record
    in_order = sorted(records, key=whole_time)
    times = [whole_time(record) for record in in_order]
    return {**in_order[len(records) // 2], 'whole_times': times}


def whole_time(record: dict) -> float:
    """Returns the seconds of all rounds; of those not done, the median of the rest."""
    before, first, *rest = record['seconds']
    missing = record['rounds'] - 1 - len(rest)
    return before + first + sum(rest) + missing * statistics.median(rest)


def predicted(operations: tuple[int, int]) -> float:
    """Returns how many times the work of a step is less with cached activations.

    A backward pass computes gradients of weights and of activations, each of which
    costs what a forward pass costs.

    Args:
      operations: Those of the forward pass below and above the cut.
    """
    below, above = operations
    return (below + 3 * above) / (3 * above)


def head_table(records: list[dict]) -> list[str]:
    """Returns the lines of the heads' table."""
    lines = [
        '| clients | | whole time, s | to ours | before the first round | first round |'
        ' each further round | to ours | weights differ by | load before |',
        '|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|',
    ]
    ours = {r['population']: r for r in records if r['name'] == OURS}
    for r in records:
        start = f'| {r["population"]} | {r["name"]} |'
        if 'error' in r:
            lines.append(f'{start} {r["error"]} | | | | | | | |')
            continue
        base = ours[r['population']]
        before, first, *rest = r['seconds']
        done = len(rest) + 1
        whole = f'{whole_time(r):.2f}'
        if len(times := r['whole_times']) > 1:
            whole += f' ({times[0]:.2f} to {times[-1]:.2f})'
        if done < r['rounds']:
            whole += f' (from {done} of {r["rounds"]} rounds)'
        ratios = ['', '']
        if 'seconds' in base:
            further = _further(r) / _further(base)
            ratios = [f'{whole_time(r) / whole_time(base):.1f}', f'{further:.0f}']
        apart = f'{r["difference"]:.0e}' if 'difference' in r else ''
        lines.append(
            f'{start} {whole} | {ratios[0]} | {before:.2f} | {first:.2f} |'
            f' {_further(r):.4f} | {ratios[1]} | {apart} | {r["load_before"]:.1f} |'
        )
    return lines


def _further(record: dict) -> float:
    return statistics.median(record['seconds'][2:])


def top_table(records: list[dict]) -> list[str]:
    """Returns the lines of the tops' table."""
    lines = [
        '| layers above the cut | | seconds a round | fastest, slowest | times the'
        ' cached | predicted | Mflop below, above | weights differ by | load before |'
        ' settings |',
        '|--:|---|--:|--:|--:|--:|--:|--:|--:|---|',
    ]
    cached = {r['top_layers']: r for r in records if r['name'] == CACHED}
    for r in records:
        start = f'| {r["top_layers"]} | {r["name"]} |'
        if 'error' in r:
            lines.append(f'{start} {r["error"]} | | | | | | | |')
            continue
        rest, base = r['seconds'][1:], cached[r['top_layers']]
        cells = ['', '', '', '']
        if r is not base:
            if 'seconds' in base:
                cells[0] = f'{speed.median(r) / speed.median(base):.2f}'
            cells[1] = f'{predicted(r["operations"]):.2f}'
            cells[2] = ', '.join(f'{count / 1e6:.1f}' for count in r['operations'])
            cells[3] = f'{r["difference"]:.0e}' if 'difference' in r else ''
        lines.append(
            f'{start} {speed.median(r):.4f} | {min(rest):.4f}, {max(rest):.4f} |'
            f' {" | ".join(cells)} | {r["load_before"]:.1f} | {r["settings"]} |'
        )
    return lines


def page(measured: dict) -> str:
    """Returns a measurement as a page in Markdown."""
    head, top = measured['head'], measured['top']
    versions = {}
    for record in (*head, *top):
        versions |= record.get('versions', {})
    listed = ', '.join(f'{name} {version}' for name, version in versions.items())
    rounds = max(r['rounds'] for r in head)
    top_rounds = max(len(r.get('seconds', ())) for r in top)
    shared = (
        f'{CLIENTS} clients a round with {IMAGES} images each, uint8 28 x 28, which'
        ' the preprocessing makes as large as the backbone wants; batches of 20, one'
        f' epoch, {workloads.IMAGE_CLASSES} classes, SGD 0.01.'
    )
    return '\n'.join(
        [
            '# frozen',
            '',
            f'Backbone: {measured["backbone"]}. {shared}',
            '',
            '## head',
            '',
            f'A linear head on the frozen backbone, {rounds} rounds, from raw images in'
            ' memory to the last weights: loading the backbone, features (no cache'
            ' beforehand), building, tracing and compilation are counted, imports and'
            ' making the data are not. With 10 clients all take part in each round,'
            f' with 100 they are drawn. "{OURS}" extracts the features of the whole'
            f' population before the first round; "{STOCK}" is'
            ' `tff.learning.models.from_keras_model` of preprocessing, the module with'
            ' `trainable=False` and a dense layer, on lists of `tf.data.Dataset`.'
            ' Neither standardises features. Of several runs of ours, some'
            " before and some after TFF's, the one of the median time stands here with"
            ' the fastest and the slowest. "Weights differ by" compares the heads'
            ' after each round that both did.',
            '',
            *head_table(head),
            '',
            '## top',
            '',
            'The layers above a cut and a linear head are trained, on the compiled'
            ' runtime: on activations that were extracted once, and on raw images with'
            f' the same weights trained. Medians of {top_rounds - 1} rounds after the'
            f' first; weights after {top_rounds} rounds. Predicted: (below + 3 above) /'
            " (3 above), of one image's floating-point operations in the forward pass"
            " as TensorFlow's profiler counts them from the graphs (convolutions,"
            ' products and sums; it has no rule for BatchNorm, ReLU and resizing); a'
            ' backward pass counts as two forward.',
            '',
            *top_table(top),
            '',
            machine.sentence(measured['machine']),
            '',
            f'Versions: {listed}.',
            '',
        ]
    )


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

"""How seconds a round grow with clients and with examples, on head or small.

  python -m benchmarks.growth --rounds=6
  python -m benchmarks.growth --workload=small --largest=100000

runs the compiled runtime, the stock one and a plain PyTorch loop (of small NumPy in
lockstep) on 10 to 10,000 clients of 100 examples, and on 100 clients of 10 to 1,000
examples, and writes `benchmarks/results/growth.md` (of small `growth_small.md`),
`.json` and `.png`. The largest cohort of head takes 5 GB, 100,000 clients of small
2.4 GB.
"""

import argparse
import json
import pathlib
import tempfile

import matplotlib.figure
import numpy as np

from benchmarks import machine, speed, workloads
from tff_transfer import files, progress

CLIENTS = (10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000)
EXAMPLES = (10, 30, 100, 300, 1000)
# More of the stock runtime, about 17 ms a client, takes too long to wait for.
STOCK_CLIENTS = 1000
PYTORCH = next(r for r in speed.OTHERS if r.name == 'PyTorch loop, 1 thread')
RUNNERS = {
    'head': (speed.COMPILED, speed.STOCK, PYTORCH),
    'small': (speed.COMPILED, speed.ALONE, speed.NUMPY[1]),
}
MODELS = {
    'head': '1,280 features to 62 classes, batches of 20',
    'small': '60 features to 10 classes, batches of 10',
}


def measure(workload: str, rounds: int, largest: int) -> list[dict]:
    """Runs every framework on every size.

    Args:
      workload: `'head'` or `'small'`.
      rounds: Rounds of each, the first one included.
      largest: The most clients.

    Returns:
      For each run what `speed.run` gives, with `name`, `clients` and `examples` (of
      each client) and, from the second framework on, the `difference` of the weights
      to the compiled runtime's.
    """
    sizes = [(clients, 100) for clients in CLIENTS if clients <= largest]
    sizes += [(100, examples) for examples in EXAMPLES if examples != 100]
    records = []
    for clients, examples in progress.bar(sizes, desc='growth'):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            getattr(workloads, workload)([examples] * clients).save(folder / 'work')
            reference = None
            for number, runner in enumerate(RUNNERS[workload]):
                if runner is speed.STOCK and clients > STOCK_CLIENTS:
                    continue
                place = folder / str(number)
                place.mkdir()
                record = speed.run(runner, folder / 'work', rounds, place, 1800)
                weights = record.pop('weights', None)
                if weights is not None:
                    reference = reference or weights
                    record['difference'] = speed.difference(weights, reference)
                record |= {
                    'name': runner.name,
                    'clients': clients,
                    'examples': examples,
                }
                records.append(record)
                print(clients, examples, runner.name, speed.summary(record), flush=True)
    return records


def line(records: list[dict], key: str) -> tuple[float, float]:
    """Fits seconds = fixed + slope * size, each size counting by its relative error.

    Args:
      records: Records of one framework.
      key: The size: `'clients'` or `'examples'`.

    Returns:
      The fixed seconds and the seconds for each one more.
    """
    size = np.array([r[key] for r in records], float)
    seconds = np.array([speed.median(r) for r in records])
    slope, fixed = np.polyfit(size, seconds, 1, w=1 / seconds)
    return float(fixed), float(slope)


def series(records: list[dict], key: str) -> dict[str, list[dict]]:
    """Returns the records of each framework in which only `key` varies."""
    other = 'examples' if key == 'clients' else 'clients'
    rows = sorted(
        (r for r in records if r[other] == 100 and 'seconds' in r),
        key=lambda r: r[key],
    )
    return {name: [r for r in rows if r['name'] == name] for name in _names(rows)}


def _names(records: list[dict]) -> list[str]:
    return list(dict.fromkeys(r['name'] for r in records))


def plot(records: list[dict], path: pathlib.Path) -> None:
    """Draws seconds against clients and against examples, with the fitted lines."""
    figure = matplotlib.figure.Figure((10, 4.2), layout='constrained')
    for axes, key in zip(figure.subplots(1, 2), ('clients', 'examples'), strict=True):
        for name, rows in series(records, key).items():
            size = np.array([r[key] for r in rows])
            points = axes.plot(size, [speed.median(r) for r in rows], 'o', label=name)
            if len(rows) > 1:
                fixed, slope = line(rows, key)
                axes.plot(size, fixed + slope * size, color=points[0].get_color())
        axes.set(xscale='log', yscale='log', ylabel='seconds a round')
        of_each = '100 examples each' if key == 'clients' else 'of each of 100 clients'
        axes.set_xlabel(f'{key}, {of_each}')
        axes.grid(which='major', alpha=0.3)
    axes.legend()
    with files.replacing(path) as new:
        figure.savefig(new, dpi=120, format='png')


def page(workload: str, records: list[dict], described: dict) -> str:
    """Returns the measurement as a page in Markdown."""
    name = _name(workload)
    rounds = len(records[0]['seconds']) - 1
    lines = [
        f'# {name}',
        '',
        f'Linear softmax model, {MODELS[workload]}. Median seconds of {rounds} rounds'
        ' after the first.',
        '',
        f'![seconds a round against clients and examples]({name}.png)',
        '',
        '| | each client more (of 100 examples) | fixed |'
        ' each example more (of each of 100 clients) | fixed |',
        '|---|--:|--:|--:|--:|',
    ]
    for of in _names(records):
        cells = [of]
        for key in ('clients', 'examples'):
            rows = series(records, key).get(of, [])
            if len(rows) < 2:
                cells += ['', '']
                continue
            fixed, slope = line(rows, key)
            cells += [f'{slope * 1e3:.3f} ms', f'{fixed * 1e3:.1f} ms']
        lines.append('| ' + ' | '.join(cells) + ' |')
    lines += [
        '',
        '| | clients | examples | seconds a round | fastest, slowest | microseconds an'
        ' example | peak MiB | weights differ by |',
        '|---|--:|--:|--:|--:|--:|--:|--:|',
    ]
    for r in records:
        start = f'| {r["name"]} | {r["clients"]:,} | {r["examples"]:,} |'
        if 'error' in r:
            lines.append(f'{start} {r["error"]} | | | | |')
            continue
        seconds = speed.median(r)
        each = seconds / (r['clients'] * r['examples']) * 1e6
        lines.append(
            f'{start} {seconds:.4f} | {min(r["seconds"][1:]):.4f},'
            f' {max(r["seconds"][1:]):.4f} | {each:.1f} |'
            f' {r["peak_resident_bytes"] / 2**20:,.0f} | {r["difference"]:.0e} |'
        )
    lines += [
        '',
        "The peak is the process's own, with the examples in it; TFF's worker is not"
        ' counted.',
        '',
        machine.sentence(described),
        '',
    ]
    return '\n'.join(lines)


def _name(workload: str) -> str:
    return 'growth' if workload == 'head' else f'growth_{workload}'


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--workload', choices=list(RUNNERS), default='head')
    parser.add_argument('--rounds', type=int, default=6, help='with the first')
    parser.add_argument('--largest', type=int, default=10_000, help='clients')
    options = parser.parse_args()
    described = machine.describe()
    name = _name(options.workload)
    records = measure(options.workload, options.rounds, options.largest)
    text = json.dumps({'machine': described, 'records': records}, indent=1) + '\n'
    files.write_text(speed.RESULTS / f'{name}.json', text)
    plot(records, speed.RESULTS / f'{name}.png')
    report = page(options.workload, records, described)
    files.write_text(speed.RESULTS / f'{name}.md', report)
    print(report)


if __name__ == '__main__':
    main()

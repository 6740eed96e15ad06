"""Puts several runs side by side: a table, and their accuracy by round.

python -m experiments.compare_runs --output=comparison.png runs/first runs/second
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from absl import flags

from experiments import command_line, pictures
from tff_transfer import options
from tff_transfer.errors import UserError, one_line
from tff_transfer.records import metrics, plots, report
from tff_transfer.training.config import Config

METRIC = flags.DEFINE_string('metric', 'unseen/accuracy', 'A column of metrics.csv.')
OUTPUT = flags.DEFINE_string('output', None, 'The picture to write, png or svg.')


def differences(configs: list[dict]) -> list[str]:
    """Returns, for each configuration, the options in which it differs.

    Those that only some have, such as a method's own, are given for these.

    Args:
      configs: What each `config.json` holds: dicts of options, and other records.
        What one of an earlier version does not name has its default.
    """
    flat = [dict(_items(config)) for config in configs]
    names = dict.fromkeys(name for items in flat for name in items)
    told = [
        name
        for name in names
        if any(name not in items or items[name] != flat[0].get(name) for items in flat)
    ]
    return [', '.join(f'{n}={items[n]}' for n in told if n in items) for items in flat]


def _items(config: dict) -> Iterator[tuple[str, Any]]:
    defaults = options.to_dict(Config())
    for name, part in {**defaults, **config}.items():
        if isinstance(part, dict):
            yield from {**defaults.get(name, {}), **part}.items()


def _config(run_dir: pathlib.Path) -> dict:
    path = run_dir / 'config.json'
    try:
        config = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError) as error:
        raise UserError(
            f'{path} cannot be read ({one_line(error)}); leave this run out'
        ) from error
    if not isinstance(config, dict) or not isinstance(config.get('training'), dict):
        raise UserError(f'{path} is no configuration of a run; leave this run out')
    return config


def _rows(run_dir: pathlib.Path, metric: str) -> list[dict]:
    """Returns the rows of a run, of which one at least has the metric."""
    try:
        rows = metrics.read(run_dir / 'metrics.csv')
    except (OSError, ValueError) as error:
        raise UserError(
            f'{run_dir / "metrics.csv"} cannot be read ({one_line(error)}); leave this'
            ' run out'
        ) from error
    known = {name for row in rows for name, value in row.items() if value is not None}
    if not {'round', 'time/total_s'} <= known:
        raise UserError(f'{run_dir} has no rounds in a metrics.csv; leave it out')
    if metric not in known:
        raise UserError(
            f'{run_dir} has no {metric} in its metrics.csv; give as --metric one of'
            f' {", ".join(sorted(known - {"round"}))}'
        )
    return rows


def main(run_dirs: list[str]) -> None:
    """Prints a table and writes the picture."""
    if not run_dirs:
        raise UserError('no run directories given; see --help')
    if OUTPUT.value:
        pictures.check(OUTPUT.value)
    metric, configs, curves, lines = METRIC.value, [], {}, []
    choose, chosen = (min, 'lowest') if 'loss' in metric else (max, 'highest')
    paths = [pathlib.Path(run_dir) for run_dir in run_dirs]
    alike = len({path.name for path in paths}) < len(paths)
    for path in paths:
        rows = _rows(path, metric)
        configs.append(_config(path))
        points = [(r['round'], r[metric]) for r in rows if r[metric] is not None]
        name = str(path) if alike else path.name
        curves[name] = points
        best = choose(value for _, value in points)
        last = f'{points[-1][1]:.4f}'
        seconds = f'{rows[-1]["time/total_s"]:.0f}'
        lines.append([name, str(points[-1][0]), last, f'{best:.4f}', seconds])
    head = ['run', 'rounds', metric, chosen, 'seconds', 'differs in']
    told = differences(configs)
    lines = [[*line, what] for line, what in zip(lines, told, strict=True)]
    if OUTPUT.value:
        pictures.write(plots.compared(curves, metric), OUTPUT.value)
    print(report.text_table([head, *lines]))
    if OUTPUT.value:
        print(f'picture: {OUTPUT.value}')


if __name__ == '__main__':
    command_line.run(main, takes_arguments=True)

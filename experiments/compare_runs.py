"""Puts several runs side by side: a table, and their accuracy by round.

python -m experiments.compare_runs --output=comparison.png runs/first runs/second
"""

import json
import pathlib

from absl import flags

from experiments import command_line
from tff_transfer import files
from tff_transfer.errors import UserError
from tff_transfer.training import plots, records, report

METRIC = flags.DEFINE_string('metric', 'unseen/accuracy', 'A column of metrics.csv.')
OUTPUT = flags.DEFINE_string('output', None, 'The picture to write, png or svg.')


def differences(configs: list[dict]) -> list[str]:
    """Returns, for each configuration, the options in which it differs."""
    flat = [
        {k: v for part in ('data', 'model', 'training') for k, v in c[part].items()}
        for c in configs
    ]
    names = [n for n in flat[0] if any(c.get(n) != flat[0][n] for c in flat)]
    return [', '.join(f'{n}={c.get(n)}' for n in names) for c in flat]


def main(run_dirs: list[str]) -> None:
    """Prints a table and writes the picture."""
    if not run_dirs:
        raise UserError('no run directories given; see --help')
    configs, curves, lines = [], {}, []
    for run_dir in map(pathlib.Path, run_dirs):
        rows = records.read(run_dir / 'metrics.csv')
        points = [(r['round'], r.get(METRIC.value)) for r in rows]
        points = [(number, value) for number, value in points if value is not None]
        if not points:
            raise UserError(f'{run_dir} has no {METRIC.value} in a metrics.csv')
        configs.append(json.loads((run_dir / 'config.json').read_text('utf-8')))
        curves[run_dir.name] = points
        best = max(value for _, value in points)
        last = f'{points[-1][1]:.4f}'
        seconds = f'{rows[-1]["time/total_s"]:.0f}'
        lines.append([run_dir.name, str(points[-1][0]), last, f'{best:.4f}', seconds])
    head = ['run', 'rounds', METRIC.value, 'highest', 'seconds', 'differs in']
    told = differences(configs)
    lines = [[*line, what] for line, what in zip(lines, told, strict=True)]
    print(report.text_table([head, *lines]))
    if OUTPUT.value:
        with files.replacing(OUTPUT.value) as new:
            plots.compared(curves, METRIC.value).savefig(new, dpi=110)
        print(f'picture: {OUTPUT.value}')


if __name__ == '__main__':
    command_line.run(main, takes_arguments=True)

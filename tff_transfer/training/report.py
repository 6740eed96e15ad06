"""The report of a run: one HTML file that needs nothing else, and a short table."""

import dataclasses
import importlib.resources
import pathlib

import jinja2
import numpy as np

from tff_transfer import files
from tff_transfer.training import divergence, plots, run_directory
from tff_transfer.training.config import Config

REPORT = 'report.html'


def table(result) -> list[list[str]]:
    """Returns the accuracies before and after training, and of what was exported.

    Args:
      result: The run's `loop.Result`.

    Returns:
      Rows of cells, the first one the headings.
    """
    evaluated = [
        row
        for row in result.rows
        if any(row[f'{part}/accuracy'] is not None for part in ('seen', 'unseen'))
    ]
    head = [
        'round',
        'seen clients',
        'unseen clients',
        'unseen, mean over clients',
        'seconds',
    ]
    columns = (
        'seen/accuracy',
        'unseen/accuracy',
        'unseen/accuracy_per_client',
    )
    rows = []
    shown = {0, len(evaluated) // 2, len(evaluated) - 1}
    for place, values in enumerate(evaluated):
        if place not in shown and values['round'] != result.exported_round:
            continue
        cells = [
            '-' if values[column] is None else f'{values[column]:.1%}'
            for column in columns
        ]
        rows.append([str(values['round']), *cells, f'{values["time/total_s"]:.0f}'])
    return [head, *rows]


def text_table(rows: list[list[str]]) -> str:
    """Returns rows of cells as lines of equal columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        '  '.join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return '\n'.join(lines)


def write(config: Config, result) -> pathlib.Path:
    """Writes `report.html` into a run's directory.

    Args:
      config: The run's configuration.
      result: The run's `loop.Result`.

    Returns:
      The file's path.
    """
    source = importlib.resources.files(__package__) / 'report.html.jinja'
    template = jinja2.Environment(autoescape=True).from_string(source.read_text())
    data, setup = result.setup.data, result.setup
    facts = {
        'data': data.name,
        'clients': f'{len(setup.seen):,} seen, {len(setup.unseen):,} unseen',
        'examples': f'{len(data.y):,} of {data.num_classes} classes',
        'trained weights': f'{sum(map(np.size, result.weights)):,}',
        **result.chosen,
    }
    if diverged := divergence.described(config.training, result.rows):
        facts['divergence'] = diverged
    accuracies = result.client_accuracy['unseen'] or result.client_accuracy['seen']
    hardest = sorted(accuracies.items(), key=lambda item: item[1])[:5]
    described = run_directory.describe(config)
    page = template.render(
        name=result.run_dir.resolve().name,
        facts=facts,
        table=table(result),
        pictures=[
            ('Accuracy', plots.svg(plots.by_round(result.rows, 'accuracy'))),
            ('Loss', plots.svg(plots.by_round(result.rows, 'loss'))),
            ('Clients', plots.svg(plots.per_client(result.client_accuracy))),
        ],
        hardest=hardest,
        config={part.name: described[part.name] for part in dataclasses.fields(Config)},
        versions={**described['versions'], 'commit': described['git_commit']},
    )
    path = result.run_dir / REPORT
    files.write_text(path, page)
    return path

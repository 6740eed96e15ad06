"""The report of a run: one HTML file that needs nothing else, and a short table."""

import dataclasses
import importlib.resources
import pathlib
import shlex
from collections.abc import Sequence

import jinja2
import numpy as np

from tff_transfer import files
from tff_transfer.data.federated import FederatedData
from tff_transfer.options import changed, to_flags
from tff_transfer.records import plots, run_directory, samples
from tff_transfer.records.metrics import SIMULATED
from tff_transfer.records.predictions import per_client

REPORT = 'report.html'

# How many are shown of the worst: clients, images, and classes where there are more.
_CLIENTS, _IMAGES, _CLASSES = 8, 24, 100
# Pixels of a side of a grid of samples, which larger ones are brought to.
_GRID = 700


def table(result) -> list[list[str]]:
    """Returns what decides before and after training, and of what was exported.

    Args:
      result: The run's `Result`.

    Returns:
      Rows of cells, the first one the headings.
    """
    task = result.task
    columns = (
        f'seen/{task.decides}',
        f'unseen/{task.decides}',
        f'unseen/{task.per_client}',
    )
    evaluated = [
        row for row in result.rows if any(row[name] is not None for name in columns)
    ]
    head = [
        'round',
        'seen clients',
        'unseen clients',
        'unseen, mean over clients',
        'seconds',
    ]
    rows = []
    shown = {0, len(evaluated) // 2, len(evaluated) - 1}
    for place, values in enumerate(evaluated):
        if place not in shown and values['round'] != result.exported_round:
            continue
        cells = [
            '-' if values[column] is None else format(values[column], task.shown)
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


def summary(result) -> str:
    """Returns the facts, the accuracies and the pictures of a run, as HTML."""
    return _templates().get_template('summary.html.jinja').render(_summary(result))


def write(config, result, data: FederatedData, given: Sequence[str]) -> pathlib.Path:
    """Writes `report.html` into a run's directory.

    Args:
      config: The run's `Config`.
      result: The run's `Result`.
      data: The clients, with what they really have as `x`, be it images or vectors.
      given: Which of `data` and `head` came from Python, not from the configuration.

    Returns:
      The file's path.
    """
    described = run_directory.describe(config)
    parts = [part.name for part in dataclasses.fields(config)]
    recorded = {key: it for key, it in described.items() if key not in parts}
    page = _templates().get_template('report.html.jinja')
    text = page.render(
        name=result.run_dir.resolve().name,
        mistakes=_mistakes(result, data),
        given=given,
        repeat=_repeat(config, given),
        config={part: described[part] for part in parts},
        recorded={k: v for k, v in recorded.items() if isinstance(v, dict)},
        also={k: v for k, v in recorded.items() if not isinstance(v, dict)},
        **_summary(result),
    )
    path = result.run_dir / REPORT
    files.write_text(path, text)
    return path


def _templates() -> jinja2.Environment:
    folder = importlib.resources.files(__package__)
    loader = jinja2.FunctionLoader(lambda name: (folder / name).read_text('utf-8'))
    return jinja2.Environment(autoescape=True, loader=loader)


def _summary(result) -> dict:
    """Returns what the template `summary.html.jinja` takes."""
    data, setup, task = result.setup.data, result.setup, result.task
    parts = [column.partition('/') for column in result.rows[0]]
    measured = [name for of, _, name in parts if of in ('server', 'aggregator')]
    drawn = dict.fromkeys((task.decides, *task.measures, *measured))
    return {
        'heading': task.decides.capitalize(),
        'facts': {
            'data': data.name,
            'clients': f'{len(setup.seen):,} seen, {len(setup.unseen):,} unseen',
            'examples': f'{len(data.y):,} of {data.num_classes} classes',
            'trained weights': f'{sum(map(np.size, result.weights)):,}',
            **result.chosen,
        },
        'table': table(result),
        'adapted': _adapted(result),
        'samples': [
            (number, plots.data_uri(result.samples[number], max_side=_GRID))
            for number in samples.shown(result.samples)
        ],
        'personalization': _personalization(result),
        'pictures': [
            *(
                (_title(name), plots.svg(plots.by_round(result.rows, name)))
                for name in drawn
            ),
            *(
                (
                    f'{_title(name)} by simulated time',
                    plots.svg(plots.by_round(result.rows, name, timed=True)),
                )
                for name in (task.decides,)
                if SIMULATED in result.rows[0]
            ),
            ('Clients', plots.svg(plots.per_client(result.per_client, task.decides))),
        ],
    }


def _adapted(result) -> bool:
    """Returns whether unseen clients are judged on their test examples alone."""
    rows = result.predictions['unseen'].rows
    return len(rows) > 0 and not result.setup.data.is_train[rows].any()


def _personalization(result) -> dict | None:
    """Returns what the template takes of what personalisation brings, if known."""
    found = result.personalization
    if found is None:
        return None
    pictures = (
        ('Gain by size', 'training examples of a client', found.train_examples),
        ('Gain by label skew', 'label skew of a client', found.label_skew),
    )
    return {
        'table': found.table(),
        'trained': found.trained,
        'hurt': found.hurt(),
        'pictures': [
            (
                title,
                plots.svg(
                    plots.gains(
                        found.gain, found.seen, against, label, found.task.decides
                    )
                ),
            )
            for title, label, against in pictures
        ],
    }


def _title(name: str) -> str:
    return name.replace('_', ' ').capitalize()


def _mistakes(result, data: FederatedData) -> dict | None:
    """Returns what went wrong on unseen clients, or else on tests of seen ones.

    Returns:
      What the template takes; None if nothing was evaluated, or the task has no
      classes.
    """
    part = 'unseen' if len(result.predictions['unseen'].rows) else 'seen'
    found = result.predictions[part]
    if not len(found.rows) or found.predicted is None:
        return None
    names = data.class_names or tuple(map(str, range(data.num_classes)))
    counts = found.confusion(data.num_classes)
    return {
        'part': part,
        'count': int(np.sum(~found.correct)),
        'of': len(found.rows),
        'classes': _classes(counts, names),
        'absent': int(np.sum(counts.sum(axis=1) == 0)),
        'confusion': plots.svg(plots.confusion(counts, data.class_names)),
        'clients': _clients(found, data, names),
        'images': _images(found, data, names) if data.x.ndim == 4 else [],
    }


def _classes(counts: np.ndarray, names: Sequence[str]) -> list[dict]:
    """Returns each class that occurs with its accuracy, the worst where many do."""
    totals = counts.sum(axis=1)
    accuracies = np.diag(counts) / np.maximum(totals, 1)
    shown = np.flatnonzero(totals)
    if len(shown) > _CLASSES:
        shown = shown[np.argsort(accuracies[shown], kind='stable')[:_CLASSES]]
    return [
        {
            'name': names[number],
            'examples': int(totals[number]),
            'accuracy': accuracies[number],
            'taken_for': _most_often(counts[number], number, names),
        }
        for number in shown
    ]


def _most_often(predicted: np.ndarray, number: int, names: Sequence[str]) -> str:
    """Returns the class that one is most often taken for, with the count."""
    wrong = predicted.copy()
    wrong[number] = 0
    return f'{names[wrong.argmax()]} ({wrong.max():,})' if wrong.any() else ''


def _clients(found, data: FederatedData, names: Sequence[str]) -> list[dict]:
    """Returns the clients of the lowest accuracy, with their commonest mistakes."""
    clients, accuracies = per_client(data, found.rows, found.correct)
    holders, shown = data.client_of_row[found.rows], []
    for place in np.argsort(accuracies, kind='stable')[:_CLIENTS]:
        mine = holders == clients[place]
        wrong = mine & ~found.correct
        pairs = np.stack([found.labels[wrong], found.predicted[wrong]], axis=1)
        kinds, times = np.unique(pairs, axis=0, return_counts=True)
        most = np.argsort(-times, kind='stable')[:3]
        shown.append(
            {
                'name': data.client_ids[clients[place]],
                'examples': int(mine.sum()),
                'accuracy': accuracies[place],
                'mistakes': [
                    f'{names[true]} as {names[predicted]} ({count})'
                    for (true, predicted), count in zip(
                        kinds[most], times[most], strict=True
                    )
                ],
            }
        )
    return shown


def _images(found, data: FederatedData, names: Sequence[str]) -> list[dict]:
    """Returns the images that the model is surest to know, and does not."""
    return [
        {
            'source': plots.data_uri(data.x[found.rows[place]]),
            'true': names[found.labels[place]],
            'predicted': names[found.predicted[place]],
            'client': data.client_ids[data.client_of_row[found.rows[place]]],
        }
        for place in found.worst(_IMAGES)
    ]


def _repeat(config, given: Sequence[str]) -> str:
    """Returns what to type to repeat a run: a command, or Python where it needs it."""
    if not given:
        flags = map(shlex.quote, to_flags(config))
        return ' \\\n    '.join(['python -m experiments.emnist_fedavg', *flags])
    arguments = ', '.join([repr(config), *(f'{name}={name}' for name in given)])
    used = [type(part).__name__ for part in (config, config.data, config.model)]
    used = ', '.join([*used, type(config.training).__name__, 'train'])
    method = type(config.algorithm)
    imports = f'from tff_transfer import {used}\n'
    imports += f'from tff_transfer.algorithms import {method.__name__}\n'
    for name in ('privacy', 'compression', 'compression_down'):
        if name in changed(config):
            made = type(getattr(config, name))
            imports += f'from {made.__module__} import {made.__name__}\n'
    return f'{imports}\ntrain({arguments})'

"""Pictures of a run, as SVG text or in a notebook."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

_LABELS = {'seen': 'seen clients (test examples)', 'unseen': 'unseen clients'}
_COLOURS = {'train': '#999999', 'seen': '#1f77b4', 'unseen': '#d95f02'}


def _curve(axes, rows: Sequence[Mapping], column: str, **style) -> None:
    points = [(r['round'], r[column]) for r in rows if r[column] is not None]
    if points:
        axes.plot(*zip(*points, strict=True), **style)


def by_round(rows: Sequence[Mapping], metric: str) -> Figure:
    """Draws a metric by round: in training, on seen and on unseen clients.

    Args:
      rows: The rows of a run, as `Result.rows` or `records.read` gives them.
      metric: `'accuracy'` or `'loss'`.

    Returns:
      The figure.
    """
    figure = Figure((6, 3.4), layout='constrained')
    axes = figure.subplots()
    _curve(
        axes,
        rows,
        f'train/{metric}',
        label='cohort, in training',
        color=_COLOURS['train'],
        linewidth=1,
    )
    for part, label in _LABELS.items():
        _curve(
            axes,
            rows,
            f'{part}/{metric}',
            label=label,
            color=_COLOURS[part],
            marker='o',
            markersize=3,
        )
    axes.set(xlabel='round', ylabel=metric)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(frameon=False)
    return figure


def per_client(client_accuracy: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draws how many clients have which accuracy.

    Args:
      client_accuracy: `Result.client_accuracy`.

    Returns:
      The figure.
    """
    figure = Figure((6, 3.4), layout='constrained')
    axes = figure.subplots()
    values = {k: list(v.values()) for k, v in client_accuracy.items() if v}
    lowest = min((min(v) for v in values.values()), default=0)
    bins = np.linspace(np.floor(lowest * 20) / 20, 1, 21)
    for part, accuracies in values.items():
        axes.hist(
            accuracies,
            bins,
            weights=np.full(len(accuracies), 1 / len(accuracies)),
            label=f'{_LABELS[part]}: {len(accuracies)}',
            color=_COLOURS[part],
            alpha=0.6,
        )
    axes.set(xlabel="a client's accuracy", ylabel='share of clients')
    if values:
        axes.legend(frameon=False)
    return figure


def svg(figure: Figure) -> str:
    """Returns a figure as an SVG element to put into a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg', metadata={'Date': None})
    text = buffer.getvalue()
    return text[text.index('<svg') :]


def compared(curves: dict[str, list[tuple[int, float]]], metric: str) -> Figure:
    """Draws a metric by round, a curve a run."""
    figure = Figure((7, 4), layout='constrained')
    axes = figure.subplots()
    for name, points in curves.items():
        # What stands before the first round would flatten the rest.
        points = [p for p in points if p[0] > 0] or points
        axes.plot(*zip(*points, strict=True), marker='o', markersize=3, label=name)
    axes.set(xlabel='round', ylabel=metric)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure

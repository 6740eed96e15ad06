"""Pictures of a run, as SVG text or in a notebook."""

import base64
import io
import operator
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import PIL.Image
from matplotlib.figure import Figure

from tff_transfer import progress
from tff_transfer.errors import UserError
from tff_transfer.records.metrics import SIMULATED

_LABELS = {
    'train': 'cohort, in training',
    'seen': 'seen clients (test examples)',
    'unseen': 'unseen clients',
    'server': 'server',
    'aggregator': 'aggregation',
}
_COLOURS = {
    'train': '#999999',
    'seen': '#1f77b4',
    'unseen': '#d95f02',
    'server': '#1b9e77',
    'aggregator': '#7570b3',
}

# Classes of a confusion matrix up to which counts, and names, can be read.
_WITH_COUNTS, _WITH_NAMES = 12, 70


def _curve(axes, rows: Sequence[Mapping], column: str, place: Callable, **style):
    points = [(place(row), row[column]) for row in rows if row.get(column) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), **style)


def by_round(rows: Sequence[Mapping], metric: str, *, timed: bool = False) -> Figure:
    """Draws a metric by round, of all parts of a run that have it.

    Args:
      rows: The rows of a run, as `Result.rows` or `metrics.read` gives them.
      metric: What is measured, such as `'accuracy'` or `'loss'`.
      timed: Whether to draw it by simulated time instead, of a run that has it.

    Returns:
      The figure.

    Raises:
      UserError: No such metric; the message has those that there are.
    """
    columns = [column.split('/') for column in (rows[0] if rows else ())]
    known = [name for part, *name in columns if part in _COLOURS]
    known = list(dict.fromkeys('/'.join(name) for name in known))
    if metric not in known:
        raise UserError(
            f'there is no metric {metric!r}; give one of {", ".join(known)}'
            if known
            else f'there are no rows to draw {metric!r} of'
        )
    said, place = 'round', operator.itemgetter('round')
    if timed:
        name, size = progress.unit(rows[-1][SIMULATED])
        said, place = f'simulated time, {name}', lambda row: row[SIMULATED] / size
    figure = Figure((6, 3.4), layout='constrained')
    axes = figure.subplots()
    for part, label in _LABELS.items():
        evaluated = part in ('seen', 'unseen')
        style = {'marker': 'o', 'markersize': 3} if evaluated else {'linewidth': 1}
        column, colour = f'{part}/{metric}', _COLOURS[part]
        _curve(axes, rows, column, place, label=label, color=colour, **style)
    axes.set(xlabel=said, ylabel=metric)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(frameon=False)
    return figure


def per_client(
    values: Mapping[str, Mapping[str, float]], measure: str = 'accuracy'
) -> Figure:
    """Draws how many clients have which accuracy.

    Args:
      values: `Result.per_client`.
      measure: What they are, if not accuracies: `Task.decides`.

    Returns:
      The figure.
    """
    figure = Figure((6, 3.4), layout='constrained')
    axes = figure.subplots()
    drawn = {part: np.array([*of.values()]) for part, of in values.items() if of}
    every = np.concatenate([[], *drawn.values()])
    every = every[np.isfinite(every)]
    lowest = np.floor(every.min() * 20) / 20 if len(every) else 0
    bins = np.linspace(lowest, np.ceil(every.max(initial=1) * 20) / 20, 21)
    for part, those in drawn.items():
        axes.hist(
            those,
            bins,
            weights=np.full(len(those), 1 / len(those)),
            label=f'{_LABELS[part]}: {len(those)}',
            color=_COLOURS[part],
            alpha=0.6,
        )
    axes.set(xlabel=f"a client's {measure}", ylabel='share of clients')
    if drawn:
        axes.legend(frameon=False)
    return figure


def gains(
    gain: np.ndarray,
    seen: np.ndarray,
    against: np.ndarray,
    label: str,
    measure: str = 'accuracy',
) -> Figure:
    """Draws what personalisation brings each client against what it is like.

    Args:
      gain: `Personalization.gain`, [clients].
      seen: Whether they train, bool [clients].
      against: What each of them is like, [clients], such as its size.
      label: What that is.
      measure: What is gained, if not accuracy: `Task.decides`.

    Returns:
      The figure.
    """
    figure = Figure((6, 3.4), layout='constrained')
    axes = figure.subplots()
    axes.axhline(0, color='#222222', linewidth=1)
    for part, those in (('seen', seen), ('unseen', ~seen)):
        if those.any():
            style = {'s': 14, 'alpha': 0.6, 'linewidths': 0, 'color': _COLOURS[part]}
            axes.scatter(against[those], gain[those], label=_LABELS[part], **style)
    axes.set(xlabel=label, ylabel=f'gain in {measure}')
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def confusion(counts: np.ndarray, class_names: Sequence[str] = ()) -> Figure:
    """Draws which classes are taken for which, dark where that is more often so.

    Args:
      counts: int [classes, predicted classes], as `Predictions.confusion` gives it.
      class_names: What each class is called; numbers if empty.

    Returns:
      The figure. Few classes come with counts, very many without names.
    """
    classes = len(counts)
    figure = Figure((6, 5.4), layout='constrained')
    axes = figure.subplots()
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    # The square root brings out rare mistakes beside what is right.
    axes.imshow(np.sqrt(shares), cmap='Blues', vmin=0, vmax=1, interpolation='nearest')
    axes.set(xlabel='predicted', ylabel='true class', xticks=[], yticks=[])
    if classes <= _WITH_NAMES:
        names = [str(n)[:12] for n in class_names] or [str(n) for n in range(classes)]
        style = {'fontsize': min(10, 350 / classes)}
        upright = max(map(len, names)) > 2
        axes.set_yticks(range(classes), names, **style)
        axes.set_xticks(range(classes), names, rotation=90 if upright else 0, **style)
        axes.tick_params(length=0)
    if classes <= _WITH_COUNTS:
        for place in np.argwhere(counts):
            dark = shares[tuple(place)] > 0.3
            axes.text(
                *place[::-1],
                f'{counts[tuple(place)]:,}',
                ha='center',
                va='center',
                fontsize=9,
                color='white' if dark else '#222222',
            )
    return figure


def data_uri(image: np.ndarray, max_side: int = 80) -> str:
    """Returns an image as the `src` of an `img` element: a PNG within the text.

    Args:
      image: [height, width, 1 or 3], uint8 in [0, 255] or floating in [0, 1].
      max_side: Larger images are made so small.
    """
    if image.dtype != np.uint8:
        image = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
    picture = PIL.Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    picture.thumbnail((max_side, max_side))
    buffer = io.BytesIO()
    picture.save(buffer, 'PNG', optimize=True)
    return f'data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}'


def svg(figure: Figure) -> str:
    """Returns a figure as an SVG element that is as wide as its place in a page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format='svg', metadata={'Date': None})
    text = buffer.getvalue()
    wide = '<svg style="width: 100%; height: auto"'
    return text[text.index('<svg') :].replace('<svg', wide, 1)


def compared(
    curves: dict[str, list[tuple[float, float]]], metric: str, by: str = 'round'
) -> Figure:
    """Draws a metric by round, or by something else, a curve a run."""
    figure = Figure((7, 4), layout='constrained')
    axes = figure.subplots()
    for name, points in curves.items():
        # What stands before the first round would flatten the rest.
        points = [p for p in points if p[0] > 0] or points
        axes.plot(*zip(*points, strict=True), marker='o', markersize=3, label=name)
    axes.set(xlabel=by, ylabel=metric)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure

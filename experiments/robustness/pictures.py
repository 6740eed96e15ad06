"""The heat map of the study."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.robustness.cases import Case
from experiments.robustness.runs import Found

# Accuracies differ by little as long as training works at all.
_LOW = 0.8
_ACCURACY = f'accuracy on unseen clients, % (red: {_LOW:.0%} or less)'


def drawn(
    found: Mapping[Case, Found],
    defences: Sequence[str],
    names: Sequence[str],
    shares: Sequence[float],
) -> Figure:
    """Draws accuracy, and beside it backdoor success if that is among the attacks.

    Args:
      found: What each run came to.
      defences: The rows.
      names: The attacks; each has a column for each share, after one for no attack.
      shares: The shares of hostile clients.
    """
    columns = [('none', 0.0), *((name, share) for name in names for share in shares)]
    of_backdoor = [('backdoor', share) for share in shares if 'backdoor' in names]
    widths = [len(columns), *([len(of_backdoor)] if of_backdoor else [])]
    # A name of an attack needs an inch, whatever columns it has.
    width = max(0.5, 1 / len(shares))
    size = (3 + width * sum(widths), 2 + 0.4 * len(defences))
    figure = Figure(size, layout='constrained')
    axes = figure.subplots(
        1, len(widths), sharey=True, squeeze=False, width_ratios=widths
    )[0]
    accuracy = [[found[Case(d, *column)].accuracy for column in columns]
                for d in defences]  # fmt: skip
    _map(axes[0], accuracy, columns, _ACCURACY, 'RdYlGn', _LOW)
    axes[0].set_yticks(range(len(defences)), defences)
    if of_backdoor:
        success = [[found[Case(d, *column)].backdoor for column in of_backdoor]
                   for d in defences]  # fmt: skip
        _map(axes[1], success, of_backdoor, 'backdoor\nsuccess, %', 'RdYlGn_r', 0)
    return figure


def _map(axes: Axes, values, columns, title: str, colours: str, low: float) -> None:
    """Draws one map, of shares from `low` to 1, with its numbers in percent."""
    values = np.array(values, float)
    axes.imshow(values, vmin=low, vmax=1, cmap=colours, aspect='auto')
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = not 0.1 < (value - low) / (1 - low) < 0.9
            axes.text(
                column,
                row,
                f'{100 * value:.0f}',
                color='white' if dark else 'black',
                **{'ha': 'center', 'va': 'center', 'fontsize': 8},
            )
    told = [f'{share:.0%}' if share else '' for _, share in columns]
    axes.set_xticks(range(len(columns)), told, fontsize=8)
    axes.set_title(title, pad=22, fontsize=10)
    axes.tick_params(length=0)
    names = [name for name, _ in columns]
    for name in dict.fromkeys(names):
        places = [place for place, other in enumerate(names) if other == name]
        axes.text(
            np.mean(places), -0.65, name, ha='center', va='bottom', fontsize=8,
        )  # fmt: skip
        axes.axvline(places[-1] + 0.5, color='white', linewidth=3)

"""Learning curves of arms: accuracy by what it cost."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from experiments.compare import figures
from experiments.compare.figures import ACCURACY, Found
from tff_transfer.records.metrics import SIMULATED
from tff_transfer.training.columns import EPSILON

# Curves that are drawn in colours of their own, the best ones.
_COLOURED = 10
# The share of evaluations that the picture may leave out, below its edge.
_BELOW = 0.05


def _column(name: str) -> Callable[[Sequence[Mapping]], np.ndarray]:
    return lambda rows: np.array([row.get(name) for row in rows], float)


# What an accuracy may be drawn against: its label, and the values of a run's rows, NaN
# where there are none.
COSTS: dict[str, Callable[[Sequence[Mapping]], np.ndarray]] = {
    'round': _column('round'),
    'MB, up and down': lambda rows: figures.total_bytes(rows) / 1e6,
    'simulated seconds': _column(SIMULATED),
    'epsilon': _column(EPSILON),
}


def curve(each: Found, cost: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns how an arm's accuracy on unseen clients went, after its first round.

    Args:
      each: The arm.
      cost: One of `COSTS`.

    Returns:
      Of the rounds that all its runs evaluated, in which there is such a cost: the
      mean cost, and the mean and the standard deviation of the accuracy over seeds,
      [rounds] each.
    """
    runs = []
    for outcome in each.outcomes.values():
        costs, found = COSTS[cost](outcome.rows), _column(ACCURACY)(outcome.rows)
        there = np.isfinite(costs) & np.isfinite(found)
        there[0] = False  # What stands before the first round would flatten the rest.
        runs.append({int(i): (costs[i], found[i]) for i in np.flatnonzero(there)})
    if not runs or not (common := sorted(set.intersection(*map(set, runs)))):
        return (np.zeros(0),) * 3
    table = np.array([[run[number] for number in common] for run in runs])
    spread = table[..., 1].std(axis=0, ddof=1) if len(runs) > 1 else 0 * table[0, :, 1]
    return table[..., 0].mean(axis=0), table[..., 1].mean(axis=0), spread


def cost_to(rows: Sequence[Mapping], cost: str, target: float) -> float | None:
    """Returns what a run's first evaluation of a target or more had cost, or None."""
    costs, found = COSTS[cost](rows), _column(ACCURACY)(rows)
    reached = np.flatnonzero((found >= target) & np.isfinite(costs))
    return float(costs[reached[0]]) if len(reached) else None


def drawn(found: Sequence[Found]) -> Figure | None:
    """Draws accuracy on unseen clients against each cost that there is.

    Args:
      found: The arms, the best first.

    Returns:
      A panel for each cost; None if unseen clients were never evaluated.
    """
    curves = {cost: [curve(each, cost) for each in found] for cost in COSTS}
    costs = [cost for cost, of in curves.items() if any(len(x) for x, _, _ in of)]
    if not costs:
        return None
    figure = Figure((4.6 * max(len(costs), 2), 4.6), layout='constrained')
    panels = figure.subplots(1, len(costs), squeeze=False, sharey=True)[0]
    for axes, cost in zip(panels, costs, strict=True):
        for place, (x, mean, spread) in reversed([*enumerate(curves[cost])]):
            known = place < _COLOURED
            style = {'color': f'C{place}' if known else '#bbbbbb', 'zorder': 2 + known}
            axes.plot(
                x,
                mean,
                marker='o',
                markersize=3,
                linewidth=1.4 if known else 0.8,
                label=found[place].name if known else '_others',
                **style,
            )
            if known and np.any(spread):
                axes.fill_between(x, mean - spread, mean + spread, alpha=0.15, **style)
        if cost not in ('round', 'epsilon'):
            axes.set_xscale('log')
        if cost == 'round':
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel=cost)
        axes.grid(alpha=0.3)
    points = np.concatenate([mean for _, mean, _ in curves[costs[0]]])
    low = np.quantile(points, _BELOW)
    panels[0].set(
        ylabel='accuracy, mean over unseen clients',
        ylim=(low - 0.02 * (points.max() - low), None),
    )
    panels[0].yaxis.set_major_formatter(ticker.PercentFormatter(1))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles[::-1], labels[::-1], loc='outside lower center', ncols=3, frameon=False
    )
    return figure

"""The picture of a leaderboard: every method, with intervals, the best on top."""

from collections.abc import Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from experiments.compare import statistics
from experiments.compare.figures import Judged
from experiments.compare.verdicts import Tested
from experiments.leaderboard.standings import REFERENCES, Standing

_TIERS = ('#1b9e77', '#7570b3', '#d95f02', '#666666')
# Far worse methods would leave no room for what others differ in.
_SHOWN = 0.85


def drawn(judged: Judged, tested: Tested, costs: Sequence[Standing]) -> Figure:
    """Draws accuracy on unseen clients, and what reaching the target cost.

    Args:
      judged: How clients fared.
      tested: The tests on unseen clients.
      costs: Who reaches the target at which cost.

    Returns:
      A panel for accuracy, and one for each cost. The best, and what cannot be told
      apart from it, have the first colour; the best of the others has the second, and
      so on.
    """
    ranked = tested.ranked
    tier_of = {arm: tier for tier, arms in enumerate(tested.tiers) for arm in arms}
    colours = [_TIERS[min(tier_of[arm], len(_TIERS) - 1)] for arm in ranked]
    names = [tested.names[arm] for arm in ranked]
    shown = [f'{n} (reference)' if n in REFERENCES else n for n in names]
    values = judged.values[ranked][:, judged.unseen].T
    means = values.mean(axis=0)
    low, high = statistics.interval(statistics.drawn_means(values))
    figure = Figure(
        (4.6 + 2.8 * len(costs), 1.2 + 0.23 * len(names)), layout='constrained'
    )
    panels = figure.subplots(
        1,
        1 + len(costs),
        squeeze=False,
        sharey=True,
        width_ratios=[3, *[2] * len(costs)],
    )[0]
    places = np.arange(len(names))
    edge = np.quantile(means, 1 - _SHOWN) - 0.005
    for place in places:
        if means[place] < edge:
            said = f' ◂ {means[place]:.1%}'
            panels[0].text(edge, place, said, va='center', fontsize=8)
            continue
        ends = [max(low[place], edge), high[place]]
        panels[0].plot(ends, [place] * 2, color=colours[place], linewidth=2, alpha=0.5)
    panels[0].scatter(means, places, color=colours, s=22, zorder=3)
    panels[0].set(
        xlim=(edge, None), xlabel='accuracy, mean over unseen clients (95 % interval)'
    )
    panels[0].xaxis.set_major_locator(ticker.MaxNLocator(5))
    panels[0].xaxis.set_major_formatter(ticker.PercentFormatter(1))
    panels[0].set_yticks(places, shown, fontsize=9)
    panels[0].invert_yaxis()
    for axes, standing in zip(panels[1:], costs, strict=True):
        there = [place for place in places if names[place] in standing.values]
        axes.scatter(
            [standing.values[names[place]] for place in there],
            there,
            color=[colours[place] for place in there],
            s=22,
        )
        axes.set(xlabel=standing.by)
        spent = [value for value in standing.values.values() if value]
        if spent and max(spent) > 10 * min(spent):
            axes.set_xscale('symlog', linthresh=min(spent))  # With room for nothing.
    if len(tested.tiers) > 1:
        panels[0].set_title(
            'another colour: told apart from the best of the one above',
            fontsize=9,
            loc='left',
        )
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    return figure

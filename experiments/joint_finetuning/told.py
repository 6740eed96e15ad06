"""What the study says of its runs: intervals, table, pictures and the page."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments import pages
from experiments.joint_finetuning import runs
from tff_transfer import randomness
from tff_transfer.records import plots

# Resamples of a bootstrap, and the share of them that an interval holds.
RESAMPLES, SHARE = 2000, 0.95


def interval(values: np.ndarray) -> tuple[float, float]:
    """Returns a bootstrap interval of the mean, over seeds and test examples at once.

    Owen 2007, "The pigeonhole bootstrap": both are drawn anew, with replacement, so
    that it says how far other seeds and other test examples would lead.

    Args:
      values: Numbers [seeds, m].
    """
    draw = randomness.generator(0, 'bootstrap')
    seeds, count = values.shape
    means = [
        values[draw.integers(seeds, size=seeds)]
        .mean(axis=0)[draw.integers(count, size=count)]
        .mean()
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(means, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    return float(low), float(high)


def gain(setting: runs.Setting, way: str, party: int) -> tuple[float, float, float]:
    """Returns by how much a way is better than alone, and the interval of that."""
    ours, alone = (setting.right(of, party).astype(float) for of in (way, runs.ALONE))
    return float(np.mean(ours - alone)), *interval(ours - alone)


def table(settings: Sequence[runs.Setting]) -> list[list[str]]:
    """Returns accuracies of all parties, as rows of cells after a head."""
    rows = [['parties', 'examples each', 'party', *(runs.ALONE, runs.COMMON, runs.OWN)]]
    for setting in settings:
        for number, party in enumerate(setting.parties):
            cells = [f'{setting.right(runs.ALONE, number).mean():.1%}']
            for way in (runs.COMMON, runs.OWN):
                if way not in setting.runs:
                    cells.append('')
                    continue
                mean = setting.right(way, number).mean()
                by, low, high = (100 * of for of in gain(setting, way, number))
                cells.append(f'{mean:.1%} ({by:+.1f}; {low:+.1f} to {high:+.1f})')
            rows.append([setting.name, f'{setting.examples:,}', party, *cells])
    return rows


def verdicts(settings: Sequence[runs.Setting]) -> list[str]:
    """Returns whether joining is better for every party, a line a setting and way."""
    lines = []
    for setting in settings:
        for way in list(setting.runs)[1:]:
            kinds = {'better': [], 'worse': [], 'not told apart': []}
            for number, party in enumerate(setting.parties):
                _, low, high = gain(setting, way, number)
                kind = 'better' if low > 0 else 'worse' if high < 0 else None
                kinds[kind or 'not told apart'].append(party)
            said = [f'{k} for {", ".join(of)}' for k, of in kinds.items() if of]
            if len(kinds['better']) == len(setting.parties):
                said = ['better for every party']
            lines.append(
                f'{setting.name}, {setting.examples:,} examples each, {way}:'
                f' {"; ".join(said)} ({_training(setting, way)}; alone'
                f' {_training(setting, runs.ALONE)})'
            )
    return lines


def _training(setting: runs.Setting, way: str) -> str:
    rates = ', '.join(f'{rate:g}' for rate in setting.rates[way])
    return f'{setting.rounds(way):g} rounds at rate {rates}'


def drawn(setting: runs.Setting) -> Figure:
    """Draws accuracy by round for each party, a thin line a seed, in each way."""
    figure = Figure((10, 3.2), layout='constrained')
    for number, axes in enumerate(figure.subplots(1, len(setting.parties))):
        for colour, way in enumerate(setting.runs):
            for seed, (correct, chosen) in enumerate(setting.curves(way, number)):
                accuracy, style = correct.mean(axis=1), {'color': f'C{colour}'}
                place = range(1, len(accuracy) + 1)
                label = None if seed else way
                axes.plot(place, accuracy, **style, linewidth=1, label=label)
                axes.plot(chosen + 1, accuracy[chosen], 'o', **style, markersize=4)
        axes.set(title=setting.parties[number], xlabel='round')
        axes.grid(alpha=0.3)
        if not number:
            axes.set(ylabel='accuracy on test examples')
            axes.legend(frameon=False)
    return figure


def page(settings: Sequence[runs.Setting], facts: dict[str, str]) -> str:
    """Returns the report, one HTML page that needs nothing else.

    Args:
      settings: What was measured.
      facts: What was run, by name; `command` is shown as such.
    """
    return pages.filled(
        __package__,
        facts=facts,
        table=table(settings),
        verdicts=verdicts(settings),
        pictures=[
            (f'{s.name}, {s.examples:,} examples each', plots.svg(drawn(s)))
            for s in settings
        ],
        share=f'{SHARE:.0%}',
        patience=runs.PATIENCE,
        epochs=runs.TRAINING.client_epochs,
        stop=runs.TRAINING.early_stop_patience,
    )

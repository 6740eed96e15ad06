"""The study's page: tables, pictures, and what they say."""

import pathlib
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments import pages
from experiments.fedboost import forests, weighting
from experiments.fedboost.weighting import Setting
from experiments.tables import markdown
from tff_transfer import files
from tff_transfer.boosting import simplex
from tff_transfer.records import plots


def ensembles(setting: Setting, found: Mapping[str, dict]) -> list[list[str]]:
    """Returns the table of ensembles; the first row is the heading."""
    pool, unseen = setting.pool, setting.unseen
    count = len(pool.names)
    head = ['weights', 'accuracy, unseen clients', 'worst tenth', 'squared loss']
    head += ['above the best', 'MB a client and round', 'rate']
    table = [head]

    def figures(weights: np.ndarray) -> list[float]:
        loss = weighting.squared_loss(weights, weighting.moments_of(unseen))
        own = weighting.squared_loss(weights, weighting.moments_of(setting.learners))
        return [
            weighting.accuracy(weights, unseen),
            weighting.worst_tenth(weights, unseen),
            loss,
            own - setting.best[1],
        ]

    def add(name: str, rows: list[list[float]], megabytes: str, rate: str) -> None:
        values = np.array(rows)
        mean, spread = values.mean(0), values.std(0)
        forms = ('.2%', '.2%', '.4f', '.5f')
        cells = [
            f'{m:{form}}' + (f' ± {s:{form}}' if len(rows) > 1 else '')
            for m, s, form in zip(mean, spread, forms, strict=True)
        ]
        table.append([name, *cells, megabytes, rate])

    losses = [
        weighting.squared_loss(one, weighting.moments_of(setting.choosers))
        for one in np.eye(count)
    ]
    single = int(np.argmin(losses))
    add(
        f'the best single: {pool.names[single]}',
        [figures(np.eye(count)[single])],
        '-',
        '-',
    )
    add(f'all {count} alike', [figures(simplex.uniform(count))], '-', '-')
    add('the least loss, all told (solver)', [figures(setting.best[0])], '-', '-')
    for name, of in found.items():
        runs = of['runs']
        rows = [figures(np.array(one['weights'])) for one in runs]
        spent = np.mean([one['bytes'][-1] for one in runs]) / setting.rounds
        add(name, rows, f'{spent / 1e6:.2f}', f'{of["rate"]:g}')
    return table


def predictors(setting: Setting) -> list[list[str]]:
    """Returns the table of base predictors, with the solver's weights."""
    table = [['predictor', 'MB', 'accuracy, unseen clients', 'squared loss', 'weight']]
    moments = weighting.moments_of(setting.unseen)
    for number, name in enumerate(setting.pool.names):
        one = np.eye(len(setting.pool.names))[number]
        table.append(
            [
                name,
                f'{setting.pool.bytes[number] / 1e6:.2f}',
                f'{weighting.accuracy(one, setting.unseen):.2%}',
                f'{weighting.squared_loss(one, moments):.4f}',
                f'{setting.best[0][number]:.3f}',
            ]
        )
    return table


def picked(found: Mapping[str, dict]) -> list[list[str]]:
    """Returns the table of AdaBoost."""
    rounds = next(iter(found.values()))['round']
    shown = sorted({0, len(rounds) // 2, len(rounds) - 1})
    heads = [f'accuracy, unseen, round {rounds[place]}' for place in shown]
    table = [['weak learners', *heads, 'least error of a choice', 'MB a client']]
    for name, of in found.items():
        cells = [f'{of["accuracy"][place]:.2%}' for place in shown]
        error, spent = f'{min(of["error"]):.3f}', f'{of["bytes"][-1] / 1e6:.1f}'
        table.append([name, *cells, error, spent])
    return table


def grown(found: Mapping[str, dict]) -> list[list[str]]:
    """Returns the table of trees on one kind of examples."""
    heads = ['accuracy, own test', 'unseen clients', 'MB a client', 'remarks']
    table = [['trees', *heads]]
    for name, of in found.items():
        spent = f'{of["bytes"] / 1e6:.1f}' if 'bytes' in of else '-'
        told = of.get('told', '')
        table.append([name, f'{of["own"]:.2%}', f'{of["unseen"]:.2%}', spent, told])
    return table


def verdicts(
    setting: Setting, found: Mapping[str, dict], trees: Mapping[str, Mapping[str, dict]]
) -> list[str]:
    """Returns what the tables come to, a sentence each."""
    rows = {row[0]: row for row in ensembles(setting, found)[1:]}
    names = list(rows)
    single, alike = rows[names[0]], rows[names[1]]
    lines = [
        f'The best single predictor gets {single[1]} of unseen clients right, all alike'
        f' {alike[1]}.'
    ]
    for name in found:
        if 'log' not in name:
            row = rows[name]
            lines.append(
                f'FedBoost, {name}: {row[1]}, {row[5]} MB a client and round; its loss'
                f' at the learners is {row[4]} above the best ensemble.'
            )
    for kind, of in trees.items():
        plain, central = of[forests.FEDERATED], of[forests.CENTRAL]
        alone, secure = of[forests.LOCAL], of[forests.SECURE]
        lines.append(
            f'Trees on {kind}: federated {plain["own"]:.2%} on own test examples,'
            f' secure sums {secure["own"]:.2%}, LightGBM in one place'
            f' {central["own"]:.2%}, each client alone {alone["own"]:.2%}.'
        )
    return lines


def regret(setting: Setting, found: Mapping[str, dict]) -> Figure:
    """Draws how far the mean weights' loss is above the best, by round and bytes."""
    figure = Figure((10, 4), layout='constrained')
    panels = figure.subplots(1, 2, sharey=True)
    kinds = [name for name in found if 'log' not in name and 'agnostic' not in name]
    for number, name in enumerate(kinds):
        runs = found[name]['runs']
        above = np.mean([one['loss'] for one in runs], 0) - setting.best[1]
        spent = np.mean([one['bytes'] for one in runs], 0) / 1e6
        rounds = weighting.EVERY * (1 + np.arange(len(above)))
        style = {'label': name, 'color': f'C{number}', 'linewidth': 1.2}
        for axes, x in zip(panels, (rounds, spent), strict=True):
            axes.plot(x, np.maximum(above, 1e-7), **style)
    panels[0].set(xlabel='round', ylabel='squared loss above the best ensemble')
    panels[1].set(xlabel='MB of a client that takes part in each round', xscale='log')
    panels[0].set(yscale='log', xscale='log')
    panels[1].legend(frameon=False, fontsize=8)
    for axes in panels:
        axes.grid(alpha=0.3)
    return figure


def boosted(found: Mapping[str, dict]) -> Figure:
    """Draws AdaBoost's accuracy on unseen clients by round."""
    figure = Figure((6, 3.6), layout='constrained')
    axes = figure.subplots()
    for name, of in found.items():
        axes.plot(of['round'], of['accuracy'], 'o-', markersize=3, label=name)
    axes.set(xlabel='round', ylabel='accuracy on unseen clients')
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return figure


def write(
    folder: pathlib.Path,
    setting: Setting,
    found: tuple[Mapping[str, dict], Mapping[str, dict], Mapping[str, Mapping]],
    facts: Mapping[str, str],
    command: str,
) -> pathlib.Path:
    """Writes `report.html`, `table.md` and the pictures as png.

    Args:
      folder: Where to.
      setting: What ensembles were learnt from.
      found: Of FedBoost, of AdaBoost, and of trees by kind of examples.
      facts: What the reader is to know first, by name.
      command: What was typed.

    Returns:
      The path of the page.
    """
    weighted, adaptive, trees = found
    tables = {
        'FedBoost: weights of an ensemble': ensembles(setting, weighted),
        'The base predictors': predictors(setting),
        'AdaBoost over clients': picked(adaptive),
        **{f'Boosted trees on {kind}': grown(of) for kind, of in trees.items()},
    }
    pictures = {'regret': regret(setting, weighted), 'adaboost': boosted(adaptive)}
    text = pages.filled(
        __package__,
        facts=facts,
        verdicts=verdicts(setting, weighted, trees),
        tables=tables,
        pictures={name: plots.svg(figure) for name, figure in pictures.items()},
        rounds=setting.rounds,
        command=command,
    )
    files.write_text(
        folder / 'table.md',
        '\n'.join(
            f'{name}\n\n{markdown(table, texts=1)}' for name, table in tables.items()
        ),
    )
    for name, figure in pictures.items():
        with files.replacing(folder / f'{name}.png') as new:
            figure.savefig(new, format='png', dpi=110)
    path = folder / 'report.html'
    files.write_text(path, text)
    return path

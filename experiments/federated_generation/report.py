"""The study's page: tables, pictures, and what they say."""

import math
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments import pages
from experiments.federated_generation import plans, public_images
from experiments.federated_generation.plans import Plan
from experiments.tables import markdown
from tff_transfer import files
from tff_transfer.records import plots, samples

Found = Mapping[Plan, dict]

_STYLES = {
    plans.SCRATCH: ':',
    plans.TRANSFERRED: '-',
    plans.FROZEN: '-.',
    plans.DISTILLED: '--',
}


def compared(found: Found, floor: Mapping[str, float]) -> list[list[str]]:
    """Returns what all runs come to at their ends; the first row is the heading."""
    table = [
        [
            *('model', 'start', 'Frechet distance', 'kernel distance, 1e-3'),
            *('recognised', 'taught', 'nearest, ratio', 'nearer to training'),
            *('weights trained', 'MB a client', 'epsilon'),
        ]
    ]

    def add(names: Sequence[str], of: Mapping[str, float], more: Sequence[str]) -> None:
        kernel, error = 1e3 * of['kernel'], 1e3 * of['kernel_error']
        table.append(
            [
                *names,
                f'{of["frechet"]:.2f}',
                f'{kernel:.2f} ± {error:.2f}',
                f'{of["recognised"]:.1%}',
                f'{of["taught"]:.1%}',
                f'{of["ratio"]:.3f}',
                f'{of["nearer"]:.1%}',
                *more,
            ]
        )

    for plan, run in found.items():
        sent = f'{run["bytes"][-1] / 1e6:.1f}'
        more = [f'{run["weights"]:,}', '-' if sent == '0.0' else sent, _said(run)]
        add([plan.kind, plan.start], run['quality'][-1], more)
    add(['real images', 'that no run was compared with'], floor, ['-'] * 3)
    return table


def _said(run: Mapping) -> str:
    return '-' if math.isinf(run['epsilon']) else f'{run["epsilon"]:.2f}'


def by_round(found: Found, measure: str) -> list[list[str]]:
    """Returns a measure by round, a row a run."""
    federated = {p: run for p, run in found.items() if p.start != plans.PRETRAINED}
    rounds = max((run['round'] for run in federated.values()), key=len)
    table = [['model', 'start', *(f'round {number}' for number in rounds)]]
    for plan, run in federated.items():
        values = [of[measure] for of in run['quality']]
        table.append([plan.kind, plan.start, *(f'{value:.2f}' for value in values)])
    return table


def closed(found: Mapping[str, dict]) -> list[list[str]]:
    """Returns accuracy by round with each set of public images."""
    rounds = next(iter(found.values()))['round']
    shown = sorted({len(rounds) // 2, len(rounds) - 1})
    head = [f'accuracy, round {rounds[place]}' for place in shown]
    table = [['public images', *head, 'mean over rounds']]
    for name, of in found.items():
        cells = [f'{of["accuracy"][place]:.1%}' for place in shown]
        table.append([name, *cells, f'{np.mean(of["accuracy"][1:]):.1%}'])
    return table


def verdicts(
    found: Found, floor: Mapping[str, float], public: Mapping[str, dict]
) -> list[str]:
    """Returns what the tables come to, a sentence each."""
    lines = []
    for kind in dict.fromkeys(plan.kind for plan in found):
        ends = {p.start: r['quality'][-1] for p, r in found.items() if p.kind == kind}
        told = ', '.join(f'{start} {ends[start]["frechet"]:.1f}' for start in ends)
        lines.append(f'{kind}, Frechet distance at the end: {told}.')
    lines.append(
        f'Other real images are at {floor["frechet"]:.2f}, which is what so few images'
        ' leave of a distance of nothing.'
    )
    best = min(found, key=lambda plan: found[plan]['quality'][-1]['frechet'])
    of = found[best]['quality'][-1]
    lines.append(
        f'Nearest to real images is {best.name}: a classifier of real ones takes'
        f' {of["recognised"]:.1%} for what they are to be, and one that learned from'
        f' them alone gets {of["taught"]:.1%} of real ones right (from real ones'
        f' {floor["taught"]:.1%}).'
    )
    copied = min(r['quality'][-1]['ratio'] for r in found.values())
    lines.append(
        'The least ratio of distances to the nearest training and test image is'
        f' {copied:.3f}; of other real images it is {floor["ratio"]:.3f}.'
    )
    for plan, run in found.items():
        if not math.isinf(run['epsilon']):
            lines.append(
                f'{plan.name}: epsilon {run["epsilon"]:.2f}'
                f' at delta {run["delta"]:.2g}.'
            )
    if public:
        told = ', '.join(f'{n} {of["accuracy"][-1]:.1%}' for n, of in public.items())
        lines.append(f'Clients of unlike classes, accuracy at the end: {told}.')
    return lines


def distances(found: Found) -> Figure:
    """Draws Frechet and kernel distance by round, a colour for each kind of model."""
    figure = Figure((11, 4), layout='constrained')
    panels = figure.subplots(1, 2)
    kinds = list(dict.fromkeys(plan.kind for plan in found))
    for plan, run in found.items():
        if plan.start == plans.PRETRAINED:
            continue
        style = {
            'label': plan.name,
            'color': f'C{kinds.index(plan.kind)}',
            'linestyle': _STYLES[plan.start],
            'linewidth': 1.2,
        }
        for axes, measure in zip(panels, ('frechet', 'kernel'), strict=True):
            values = [max(of[measure], 1e-5) for of in run['quality']]
            axes.plot(run['round'], values, **style)
    for axes, label in zip(
        panels, ('Frechet distance', 'kernel distance'), strict=True
    ):
        axes.set(xlabel='round', ylabel=label, yscale='log')
        axes.grid(alpha=0.3)
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc='outside right center', frameon=False, fontsize=8)
    return figure


def curves(found: Mapping[str, dict]) -> Figure:
    """Draws accuracy by round with each set of public images."""
    points = {
        name: list(zip(of['round'], of['accuracy'], strict=True))
        for name, of in found.items()
    }
    return plots.compared(points, 'accuracy on test examples')


def grids(place, found: Found) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Returns grids of samples of each run, by its name: the first, a middle, the last.

    Args:
      place: Gives the run directory of a plan.
      found: What there is of each.
    """
    shown = {}
    for plan, run in found.items():
        last = run['round'][-1]
        made = samples.read(place(plan), last)
        rounds = [last] if plan.start == plans.PRETRAINED else samples.shown(made, 3)
        shown[plan.name] = [(f'round {n}', made[n]) for n in rounds if n in made]
    return shown


def joined(shown: Mapping[str, Sequence[tuple[str, np.ndarray]]]) -> Figure:
    """Draws the last grid of each run, with its name above."""
    columns = min(5, len(shown))
    rows = -(-len(shown) // columns)
    sizes = [of[-1][1].shape for of in shown.values() if of]
    tall = max((high / wide for high, wide, *_ in sizes), default=1)
    figure = Figure((2.3 * columns, (2.2 * tall + 0.5) * rows), layout='constrained')
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.axis('off')
    for axes, (name, of) in zip(panels, shown.items(), strict=False):
        axes.set_title(name.replace(', ', ',\n', 1), fontsize=7)
        if of:
            picture = of[-1][1]
            axes.imshow(
                picture[..., 0] if picture.shape[-1] == 1 else picture,
                cmap='gray',
                vmin=0,
                vmax=255,
            )
    return figure


def write(
    folder: pathlib.Path,
    place,
    found: Found,
    floor: Mapping[str, float],
    public: Mapping[str, dict],
    facts: Mapping[str, str],
    command: str,
) -> pathlib.Path:
    """Writes `report.html`, `table.md` and the pictures as png.

    Args:
      folder: Where to.
      place: Gives the run directory of a plan.
      found: What is measured of each run.
      floor: What is measured of other real images.
      public: What FedDF comes to by public images; nothing leaves it out.
      facts: What the reader is to know first, by name.
      command: What was typed.

    Returns:
      The path of the page.
    """
    tables = {
        'At the end of each run': compared(found, floor),
        'Frechet distance by round': by_round(found, 'frechet'),
    }
    pictures = {'distances': distances(found)}
    if public:
        tables['Generated images as public examples of FedDF'] = closed(public)
        pictures['public_images'] = curves(public)
    shown = grids(place, found)
    text = pages.filled(
        __package__,
        facts=facts,
        verdicts=verdicts(found, floor, public),
        tables=tables,
        pictures={name: plots.svg(figure) for name, figure in pictures.items()},
        grids={
            name: [(said, plots.data_uri(grid, 700)) for said, grid in of]
            for name, of in shown.items()
        },
        measured_on=public_images.PUBLIC,
        command=command,
    )
    files.write_text(
        folder / 'table.md',
        '\n'.join(
            f'{name}\n\n{markdown(table, texts=1 if "public" in name else 2)}'
            for name, table in tables.items()
        ),
    )
    for name, figure in {**pictures, 'samples': joined(shown)}.items():
        with files.replacing(folder / f'{name}.png') as new:
            figure.savefig(new, format='png', dpi=110)
    path = folder / 'report.html'
    files.write_text(path, text)
    return path

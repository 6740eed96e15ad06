"""Pictures of an audit."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from experiments.privacy_audit.canary_clients import Watched
from experiments.privacy_audit.reconstruction import PROTECTIONS, Recovered
from tff_transfer.audit.membership import Attack

# The least rate of the ROC curves that is drawn.
_LEAST = 1e-4


def cosines(watched: Mapping[str, Watched]) -> Figure:
    """Draws the canaries' cosines with the model's change beside those of nobody."""
    figure = Figure((4.4 * len(watched), 3.2), layout='constrained')
    panels = figure.subplots(1, len(watched), squeeze=False)[0]
    for axes, (said, found) in zip(panels, watched.items(), strict=True):
        parts = {
            'sent by nobody': (found.others, found.final.null, '#999999'),
            'canaries': (found.cosines, found.final.observed, '#d95f02'),
        }
        ends = np.r_[found.others, found.cosines]
        places = np.linspace(ends.min(), ends.max(), 300)
        for label, (values, normal, colour) in parts.items():
            style = {'bins': 30, 'density': True, 'alpha': 0.4, 'color': colour}
            axes.hist(values, label=label, **style)
            axes.plot(places, stats.norm.pdf(places, *normal), color=colour)
        axes.set(title=said, xlabel="cosine with the model's change", yticks=[])
        axes.legend(frameon=False)
    return figure


def roc(attacks: Mapping[str, Mapping[tuple[str, str], Attack]], unit: str) -> Figure:
    """Draws the ROC curves of the attacks on clients or on examples, on log axes."""
    figure = Figure((4.6, 4.4), layout='constrained')
    axes = figure.subplots()
    axes.plot([_LEAST, 1], [_LEAST, 1], color='#bbbbbb', linewidth=0.8)
    colours = ('#d95f02', '#1f77b4')
    for colour, (said, of) in zip(colours, attacks.items(), strict=False):
        for (attacked, how), found in of.items():
            if attacked == unit:
                axes.plot(
                    np.maximum(found.false_positives, _LEAST),
                    np.maximum(found.true_positives, _LEAST),
                    color=colour,
                    linestyle='-' if how == 'LiRA' else ':',
                    label=f'{said}, {how}: AUC {found.area:.3f}',
                )
    axes.set(xscale='log', yscale='log', xlim=(_LEAST, 1), ylim=(_LEAST, 1))
    axes.set(xlabel='false positives', ylabel='true positives', title=f'{unit}s')
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    return figure


def images(recovered: Sequence[Recovered]) -> Figure:
    """Draws images and what came out of updates, a row for each."""
    titles = ('original', *PROTECTIONS)
    size = (1.6 * len(titles), 1.7 * len(recovered))
    figure = Figure(size, layout='constrained')
    rows = figure.subplots(len(recovered), len(titles), squeeze=False)
    for row, found in zip(rows, recovered, strict=True):
        drawn = (found.image, *found.found.values())
        for axes, title, image in zip(row, titles, drawn, strict=True):
            axes.imshow(np.squeeze(image), cmap='gray', vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            said = title if title == 'original' else f'{found.psnr(title):.0f} dB'
            axes.set_xlabel(said, fontsize=8)
            if found is recovered[0]:
                axes.set_title(title, fontsize=9)
        row[0].set_ylabel(found.model, fontsize=9)
    return figure

"""The report of an audit: a page with its pictures inside, and a table."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from experiments import pages
from experiments.privacy_audit import pictures
from experiments.privacy_audit.canary_clients import Watched
from experiments.privacy_audit.reconstruction import Recovered
from experiments.tables import markdown
from tff_transfer import files
from tff_transfer.audit.membership import RATES, Attack
from tff_transfer.records import plots

NONE = 'none'
UNITS = ('client', 'example')


@dataclasses.dataclass(frozen=True)
class Found:
    """What an audit found, by what is promised: `NONE` and another.

    Attributes:
      watched: Of canaries.
      attacks: Of membership inference, by what is attacked and how.
      accuracy: On clients that train in no shadow run, the runs' mean.
      recovered: Images out of updates; none of data without images.
    """

    watched: Mapping[str, Watched]
    attacks: Mapping[str, Mapping[tuple[str, str], Attack]]
    accuracy: Mapping[str, float]
    recovered: Sequence[Recovered]


def table(found: Found) -> list[list[str]]:
    """Returns all figures, a column for each promise; the first row is the heading."""
    kinds = list(found.watched)
    rows = [['', *kinds]]

    def add(said: str, value) -> None:
        rows.append([said, *map(value, kinds)])

    add('accuracy on unseen clients', lambda kind: f'{found.accuracy[kind]:.1%}')
    add('epsilon, as accounted', lambda kind: f'{found.watched[kind].promised:.2f}')
    for said, name in (('the last model', 'final'), ('every model', 'every')):
        add(
            f'epsilon by canaries, {said} seen (at least, 95 %)',
            lambda kind, name=name: _epsilon(getattr(found.watched[kind], name)),
        )
    for unit, how in found.attacks[NONE]:
        of = {kind: attacks[unit, how] for kind, attacks in found.attacks.items()}
        said = f'which {unit}s were trained on, {how}'
        add(f'{said}: AUC', lambda kind, of=of: f'{of[kind].area:.3f}')
        for rate in RATES:
            add(
                f'{said}: true positives at {rate:.1%} false ones',
                lambda kind, of=of, rate=rate: _share(of[kind].at_rate[rate]),
            )
    for model in dict.fromkeys(one.model for one in found.recovered):
        mine = [one for one in found.recovered if one.model == model]
        add(
            f'an image out of an update ({model}), mean PSNR',
            lambda kind, mine=mine: f'{_psnr(mine, kind):.0f} dB',
        )
    return rows


def _epsilon(estimate) -> str:
    return f'{estimate.epsilon:.2f} ({estimate.low:.2f})'


def _share(value: float | None) -> str:
    return '-' if value is None else f'{value:.2%}'


def _psnr(recovered: Sequence[Recovered], kind: str) -> float:
    done = 'nothing' if kind == NONE else 'clip and noise'
    return np.mean([one.psnr(done) for one in recovered])


def leaks(found: Found) -> list[str]:
    """Returns what canaries show beyond what is promised, a sentence each."""
    return [
        f'--privacy={kind} promises epsilon {watched.promised:.2f}, but canaries show'
        f' at least {estimate.low:.2f} ({said}): something does not do what it should.'
        for kind, watched in found.watched.items()
        for said, estimate in (('last', watched.final), ('every', watched.every))
        if estimate.low > watched.promised
    ]


def write(
    folder: pathlib.Path, found: Found, facts: Mapping[str, str], command: str
) -> pathlib.Path:
    """Writes `report.html` and `table.md`.

    Args:
      folder: Where to.
      found: What the audit found.
      facts: What the reader is to know first, by name.
      command: What was typed.

    Returns:
      The path of the page.
    """
    figures = table(found)
    text = pages.filled(
        __package__,
        facts=facts,
        leaks=leaks(found),
        table=figures,
        cosines=plots.svg(pictures.cosines(found.watched)),
        curves=[plots.svg(pictures.roc(found.attacks, unit)) for unit in UNITS],
        images=plots.svg(pictures.images(found.recovered)) if found.recovered else '',
        command=command,
    )
    files.write_text(folder / 'table.md', markdown(figures, texts=1))
    path = folder / 'report.html'
    files.write_text(path, text)
    return path

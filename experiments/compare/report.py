"""The report of a grid: a page with its pictures inside, and its table in files."""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Mapping, Sequence

from experiments import pages
from experiments.compare import curves, figures, verdicts
from experiments.compare.figures import Found, Judged
from experiments.compare.verdicts import Tested
from tff_transfer import files
from tff_transfer.records import plots

_LATEX = {
    **{mark: f'\\{mark}' for mark in '&%$#_{}'},
    '\\': r'\textbackslash{}',
    '~': r'\textasciitilde{}',
    '^': r'\textasciicircum{}',
    '±': r'$\pm$',
    '<': r'$<$',
    '>': r'$>$',
}


@dataclasses.dataclass(frozen=True, eq=False)
class Page:
    """What a page tells.

    Attributes:
      title: Its title.
      facts: What the reader is to know first, by name.
      found: The arms.
      judged: How their clients fared; None if no run came to an end.
      left_out: Why configurations are not among the arms, by name.
      command: What was typed.
      awards: What is best by what, as rows of cells after a head.
      note: What to know of these.
      picture: The SVG of a picture to begin with.
    """

    title: str
    facts: Mapping[str, str]
    found: Sequence[Found]
    judged: Judged | None
    left_out: Mapping[str, str]
    command: str
    awards: Sequence[Sequence[str]] = ()
    note: str = ''
    picture: str = ''

    @property
    def tested(self) -> list[Tested]:
        """The tests of the arms, where these were judged on the same clients."""
        if self.judged is None or self.judged.differs:
            return []
        return verdicts.tested(self.judged)


def latex(text: str) -> str:
    """Returns text as LaTeX prints it."""
    return ''.join(_LATEX.get(mark, mark) for mark in text)


def latex_table(table: Sequence[Sequence[str]], texts: int) -> str:
    """Returns a table in LaTeX, for the package booktabs.

    Args:
      table: Rows of cells, the first one the headings.
      texts: How many columns, from the left, hold text; the others hold numbers.
    """
    head, *rest = (' & '.join(map(latex, cells)) + r' \\' for cells in table)
    columns = 'l' * texts + 'r' * (len(table[0]) - texts)
    begin = [f'\\begin{{tabular}}{{{columns}}}', r'\toprule', head, r'\midrule']
    return '\n'.join([*begin, *rest, r'\bottomrule', r'\end{tabular}']) + '\n'


def csv_table(found: Sequence[Found], judged: Judged | None) -> str:
    """Returns the table as CSV: mean, spread and number of runs of each figure."""
    of = [figures.numbers(each, judged) for each in found]
    heads = list(dict.fromkeys(head for numbers in of for head in numbers))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    kinds = [f'{head} {kind}' for head in heads for kind in ('mean', 'sd', 'n')]
    writer.writerow(['arm', *kinds, 'chosen', 'failed'])
    for each, numbers in zip(found, of, strict=True):
        cells = []
        for head in heads:
            number = numbers.get(head)
            if number is None or not number.values:
                cells += ['', '', 0]
                continue
            spread = '' if number.spread is None else number.spread
            cells += [number.mean, spread, len(number.values)]
        chosen = figures.values_told(each.tuned)
        writer.writerow([each.name, *cells, chosen, '; '.join(each.failed)])
    return text.getvalue()


def _pairs(tested: Sequence[Tested]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    for number, those in enumerate(tested):
        head, *rows = verdicts.table(those, every=True)
        if not number:
            writer.writerow(['clients', 'arm', *head[1:]])
        writer.writerows([those.on, *row] for row in rows)
    return text.getvalue()


def ranked(found: Sequence[Found], tested: Sequence[Tested]) -> list[Found]:
    """Returns the arms, the best first; those without a result last."""
    order = {}
    if tested:
        names = tested[0].names
        order = {names[arm]: place for place, arm in enumerate(tested[0].ranked)}
    return sorted(found, key=lambda each: order.get(each.name, len(order)))


def write(folder: pathlib.Path, stem: str, page: Page) -> pathlib.Path:
    """Writes the page, its table as CSV and LaTeX, and all pairs as CSV.

    Args:
      folder: Where to.
      stem: What these files are called.
      page: What the page tells.

    Returns:
      The path of the page.
    """
    tested = page.tested
    found = ranked(page.found, tested)
    table = figures.table(found, page.judged)
    drawn = curves.drawn([each for each in found if each.outcomes])
    text = pages.filled(
        __package__,
        page=page,
        table=table,
        adapts=page.judged is not None and not page.judged.all_examples,
        tests=[
            (those, verdicts.said(those), verdicts.table(those)) for those in tested
        ],
        curves=plots.svg(drawn) if drawn else '',
        trials=_trials(found),
        stem=stem,
    )
    files.write_text(folder / f'{stem}.csv', csv_table(found, page.judged))
    files.write_text(folder / f'{stem}.tex', latex_table(table, texts=1))
    files.write_text(folder / f'{stem}_pairs.csv', _pairs(tested))
    path = folder / f'{stem}.html'
    files.write_text(path, text)
    return path


def _trials(found: Sequence[Found]) -> list[list[str]]:
    """Returns what trials came to, as rows of cells after a head; none without."""
    rows = [
        [
            each.name,
            str(each.tuned.trials),
            figures.values_told(each.tuned),
            '-' if each.tuned.score is None else f'{each.tuned.score:.2%}',
        ]
        for each in found
        if each.tuned is not None
    ]
    head = ['', 'trials', 'chosen', 'validation clients']
    return [head, *rows] if rows else []

"""The study's report: a page with its pictures inside, a table, every figure as CSV."""

import csv
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments import pages
from experiments.hospital_imaging import figures, pictures
from experiments.hospital_imaging.figures import Figures, Interval
from experiments.hospital_imaging.study import (
    ALONE,
    CENTRAL,
    FEDERATED,
    THEN_TUNED,
    Judged,
)
from experiments.tables import markdown
from tff_transfer import files
from tff_transfer.data.federated import FederatedData
from tff_transfer.records import plots

# Methods whose curves are drawn.
DRAWN = (ALONE, FEDERATED, THEN_TUNED, CENTRAL)
_MEASURED = ('auc', 'sensitivity', 'specificity', 'calibration_error')


class Row(NamedTuple):
    """A model's answers for a hospital, and what they come to."""

    judged: Judged
    figures: Figures


def rows_of(judged: Sequence[Judged]) -> list[Row]:
    """Returns what each model comes to, beside that of the hospital alone."""
    alone = {(j.seed, j.hospital): j for j in judged if j.method == ALONE}
    return [Row(j, figures.figures(j, alone[j.seed, j.hospital])) for j in judged]


def by_hospital(rows: Sequence[Row]) -> dict[str, dict[str, list[Figures]]]:
    """Returns figures, one a seed, by hospital and method, in the order of the rows."""
    found = {}
    for row in sorted(rows, key=lambda row: row.judged.hospital):
        of = found.setdefault(row.judged.hospital, {})
        of.setdefault(row.judged.method, []).append(row.figures)
    return found


def summary(found: Mapping[str, Mapping[str, Sequence[Figures]]]) -> list[list[str]]:
    """Returns the table of figures, means over seeds; the first row is the heading."""
    head = ['hospital', 'method', 'ROC AUC (DeLong)', 'ROC AUC (bootstrap)']
    head += ['sensitivity', 'specificity', 'calibration error']
    table = [head]
    for hospital, of in found.items():
        for method, seeds in of.items():
            measured = zip(*(each[:5] for each in seeds), strict=True)
            cells = [str(figures.typical(values)) for values in measured]
            table.append([hospital, method, *cells])
    return table


def gains(found: Mapping[str, Mapping[str, Sequence[Figures]]]) -> list[list[str]]:
    """Returns the table of how much larger each method's AUC is than alone."""
    table = [['hospital', 'method', 'one seed (DeLong)', 'over seeds', 'verdict']]
    for hospital, of in found.items():
        for method, seeds in of.items():
            if method != ALONE:
                found_gains = [each.gain for each in seeds]
                spread = figures.over_seeds(found_gains)
                table.append(
                    [
                        hospital,
                        method,
                        _signed(figures.typical(found_gains)),
                        '-' if spread is None else _signed(spread),
                        figures.verdict(found_gains),
                    ]
                )
    return table


def _signed(interval: Interval) -> str:
    value, low, high = interval
    return f'{value:+.3f} [{low:+.3f}, {high:+.3f}]'


def to_csv(rows: Sequence[Row]) -> str:
    """Returns every figure of every seed as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    names = [name for name in Figures._fields if name != 'threshold']
    ends = [f'{name}{end}' for name in names for end in ('', '_low', '_high')]
    writer.writerow(['seed', 'hospital', 'method', *ends, 'threshold', 'chosen'])
    for judged, found in rows:
        values = []
        for name in names:
            values += getattr(found, name) or ('', '', '')
        said = (found.threshold, judged.chosen)
        writer.writerow([judged.seed, judged.hospital, judged.method, *values, *said])
    return text.getvalue()


def write(
    folder: pathlib.Path,
    data: FederatedData,
    judged: Sequence[Judged],
    facts: Mapping[str, str],
    command: str,
) -> pathlib.Path:
    """Writes `report.html`, `table.md` and `figures.csv`.

    Args:
      folder: Where to.
      data: The hospitals of the first seed, with images.
      judged: What all models of all seeds say, the first seed first.
      facts: What the reader is to know first, by name.
      command: What was typed.

    Returns:
      The path of the page.
    """
    rows = rows_of(judged)
    found = by_hospital(rows)
    tables = {'figures': summary(found), 'gains': gains(found)}
    methods = list(dict.fromkeys(j.method for j in judged))
    areas = {
        hospital: {
            method: figures.typical([each.auc for each in seeds])
            for method, seeds in of.items()
        }
        for hospital, of in found.items()
    }
    text = pages.filled(
        __package__,
        facts=facts,
        verdicts=[row for row in tables['gains'][1:] if row[1] == FEDERATED],
        tables=tables,
        areas=plots.svg(pictures.intervals(areas, methods)),
        curves=[_curves(data, judged, c) for c in range(len(data))],
        first=judged[0].seed,
        command=command,
    )
    path = folder / 'report.html'
    files.write_text(path, text)
    files.write_text(
        folder / 'table.md',
        '\n'.join(markdown(table, texts=len(table[0])) for table in tables.values()),
    )
    files.write_text(folder / 'figures.csv', to_csv(rows))
    return path


def _curves(data: FederatedData, judged: Sequence[Judged], client: int) -> dict:
    """Returns what the page shows of a hospital, of the first seed."""
    of = judged[0].seed, data.client_ids[client]
    mine = [j for j in judged if (j.seed, j.hospital) == of and j.method in DRAWN]
    return {
        'hospital': data.client_ids[client],
        'examples': plots.svg(pictures.examples(data, client)),
        'counts': _counts(data, client),
        'roc': plots.svg(pictures.roc(mine)),
        'reliability': plots.svg(pictures.reliability(mine)),
    }


def _counts(data: FederatedData, client: int) -> str:
    parts = {'training and validation': data.train_rows(client)}
    parts['test'] = data.test_rows(client)
    told = (
        f'{rows.stop - rows.start} for {part}, {data.y[rows].mean():.0%} positive'
        for part, rows in parts.items()
    )
    return '; '.join(told)

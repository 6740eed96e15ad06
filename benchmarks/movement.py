"""Which figures moved by more than their spread, from one measurement to the next.

A figure is the median seconds of a row's rounds, its spread from the fastest to the
slowest of them. It moved if each of two medians lies outside the other's spread.
"""

import dataclasses
import statistics
from collections.abc import Sequence

Seconds = Sequence[float]


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a benchmark's table, before and now.

    Attributes:
      name: What it is called.
      before: Seconds of each round; an error; or None where there was no such row.
      now: Likewise.
    """

    name: str
    before: Seconds | str | None
    now: Seconds | str | None

    @property
    def moved(self) -> str:
        """`'faster'`, `'slower'`, or nothing."""
        if not _is_measured(self.before) or not _is_measured(self.now):
            return ''
        before, now = statistics.median(self.before), statistics.median(self.now)
        if min(self.before) <= now <= max(self.before):
            return ''
        if min(self.now) <= before <= max(self.now):
            return ''
        return 'slower' if now > before else 'faster'

    @property
    def broke(self) -> bool:
        """Whether it had a figure, has an error, and not for want of a package."""
        failed = isinstance(self.now, str) and not self.now.startswith('not installed')
        return failed and _is_measured(self.before)


def _is_measured(value: Seconds | str | None) -> bool:
    return value is not None and not isinstance(value, str)


def compare(before: dict | None, now: dict) -> list[Row]:
    """Compares two measurements of one benchmark.

    Args:
      before: What its JSON file held, or None.
      now: What it holds.

    Returns:
      The rows of both, those of now first.
    """
    old, new = seconds_by_row(before or {}), seconds_by_row(now)
    return [Row(name, old.get(name), new.get(name)) for name in {**new, **old}]


def seconds_by_row(measured: dict) -> dict[str, Seconds | str]:
    """Returns of each row the seconds of its rounds, or its error.

    Args:
      measured: What `benchmarks.speed`, `methods`, `growth` or `frozen` writes as JSON.
    """
    found = {}
    records = measured.get('records', {})
    if isinstance(records, dict):
        for name, record in records.items():
            found[name] = _rounds(record, 1)
    else:
        for record in records:
            sizes = f'{record["clients"]:,} clients x {record["examples"]:,}'
            found[f'{sizes}, {record["name"]}'] = _rounds(record, 1)
    for record in measured.get('head', ()):
        name = f'head of {record["population"]} clients, {record["name"]}'
        # The seconds before the first round, and the first.
        found[name] = _rounds(record, 2)
        if len(record.get('whole_times', ())) > 1:
            found[f'{name}, whole time'] = record['whole_times']
    for record in measured.get('top', ()):
        name = f'top of {record["top_layers"]} layers, {record["name"]}'
        found[name] = _rounds(record, 1)
    return found


def _rounds(record: dict, first: int) -> Seconds | str:
    return record['error'] if 'error' in record else record['seconds'][first:]


def table(rows: dict[str, list[Row]]) -> str:
    """Returns the rows of all benchmarks, by name, as a table in Markdown."""
    lines = [
        '| benchmark | | before | fastest, slowest | now | fastest, slowest |'
        ' to before | moved |',
        '|---|---|--:|--:|--:|--:|--:|---|',
    ]
    for benchmark, its_rows in rows.items():
        for row in its_rows:
            ratio = ''
            if _is_measured(row.before) and _is_measured(row.now):
                median = statistics.median
                ratio = f'{median(row.now) / median(row.before):.2f}'
            cells = [*_cells(row.before), *_cells(row.now), ratio, row.moved]
            lines.append(f'| {benchmark} | {row.name} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def _cells(value: Seconds | str | None) -> tuple[str, str]:
    if not _is_measured(value):
        return value or '', ''
    spread = f'{min(value):.4f}, {max(value):.4f}'
    return f'{statistics.median(value):.4f}', spread

"""The figures of each arm: what its runs came to, and the table of them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.compare import statistics
from experiments.compare.outcomes import Outcome
from experiments.compare.search import Tuned
from tff_transfer.models.task import CLASSIFICATION
from tff_transfer.records.metrics import SIMULATED
from tff_transfer.training.columns import EPSILON

ACCURACY = f'unseen/{CLASSIFICATION.per_client}'


@dataclasses.dataclass(frozen=True, eq=False)
class Found:
    """What came of an arm.

    Attributes:
      name: The arm's.
      outcomes: Of its runs that came to an end, by seed.
      failed: What went wrong with others, one line each.
      tuned: What its trials came to; None without trials.
    """

    name: str
    outcomes: Mapping[int, Outcome]
    failed: tuple[str, ...] = ()
    tuned: Tuned | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """How clients fared under each arm of which runs came to an end.

    Attributes:
      found: These arms.
      unseen: Whether a client never trained, bool [clients].
      by_seed: For each arm, values [seeds, clients].
      all_examples: Whether unseen clients are judged by all of their examples, which
        they are where none adapts; otherwise by their test examples alone.
      differs: What is not the same under all arms, empty if clients and examples are.
    """

    found: tuple[Found, ...]
    unseen: np.ndarray
    by_seed: tuple[np.ndarray, ...]
    all_examples: bool
    differs: str = ''

    @property
    def values(self) -> np.ndarray:
        """The means over seeds, [arms, clients]."""
        return np.stack([values.mean(axis=0) for values in self.by_seed])


def judged(found: Sequence[Found]) -> Judged | None:
    """Returns how clients fared, by the examples that all arms were judged by.

    Args:
      found: All arms.

    Returns:
      None where no run came to an end.
    """
    ended = tuple(each for each in found if each.outcomes)
    clients = [of.clients for each in ended for of in each.outcomes.values()]
    if not clients:
        return None
    first = clients[0]
    everything = all(
        np.array_equal(of.all_examples[of.unseen], first.all_examples[first.unseen])
        for of in clients
    ) and np.any(first.all_examples > first.examples)
    name = 'all_' if everything else ''

    def table(of) -> tuple:
        examples = getattr(of, f'{name}examples')
        there = examples > 0
        return np.array(of.names)[there], of.unseen[there], examples[there], there

    names, unseen, examples, _ = table(first)
    differs = ''
    for other in map(table, clients):
        if not all(map(np.array_equal, other[:3], (names, unseen, examples))):
            differs = 'clients or their examples'
    if differs:
        return Judged(ended, unseen, (), everything, differs)
    by_seed = []
    for each in ended:
        rows = []
        for of in each.outcomes.values():
            of = of.clients
            there = table(of)[3]
            rows.append(getattr(of, f'{name}right')[there] / examples)
        by_seed.append(np.stack(rows))
    return Judged(ended, unseen, tuple(by_seed), everything)


@dataclasses.dataclass(frozen=True)
class Number:
    """A figure of each run of an arm.

    Attributes:
      values: Those that there are, of one seed each.
      form: How one is written.
    """

    values: tuple[float, ...]
    form: Callable[[float], str]

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(np.mean(self.values))

    @property
    def spread(self) -> float | None:
        """Their standard deviation over seeds, None of one; exactly 0 of equal ones."""
        if len(self.values) < 2:
            return None
        # Deviations from a mean that is rounded are not 0.
        return float(np.std(self.values, ddof=1)) if np.ptp(self.values) else 0.0

    def __str__(self) -> str:
        if not self.values:
            return '-'
        spread = '' if self.spread is None else f' ± {self.form(self.spread)}'
        return self.form(self.mean) + spread


def share(value: float) -> str:
    """Writes a share of one in percent, as differences of a tenth of a point count."""
    return f'{value:.2%}'


def decimal(value: float) -> str:
    """Writes a number with about three digits."""
    return f'{value:,.0f}' if abs(value) >= 100 else f'{value:.3g}'


def total_bytes(rows: Sequence[Mapping]) -> np.ndarray:
    """Returns the bytes that travelled up to each round, up and down, [rows]."""
    return np.cumsum(
        [(row['bytes/up'] or 0) + (row['bytes/down'] or 0) for row in rows]
    )


def last(rows: Sequence[Mapping], column: str) -> float | None:
    """Returns the last value in a column, None if there is none or no such column."""
    values = (row.get(column) for row in reversed(rows))
    return next((value for value in values if value is not None), None)


def numbers(each: Found, those: Judged | None) -> dict[str, Number]:
    """Returns the figures of an arm by their headings.

    Args:
      each: The arm.
      those: How the clients of all arms fared.
    """
    found = {}
    if those is not None and not those.differs and each.outcomes:
        values = those.by_seed[those.found.index(each)]
        for said, rows in (
            ('unseen clients', those.unseen),
            ('seen clients', ~those.unseen),
        ):
            if rows.any():
                means = tuple(values[:, rows].mean(axis=1).tolist())
                found[said] = Number(means, share)
            if rows.any() and said == 'unseen clients':
                worst = statistics.worst_tenth(values[:, rows])
                found['their worst tenth'] = Number(tuple(worst.tolist()), share)
    rows = [outcome.rows for outcome in each.outcomes.values()]
    if those is not None and those.differs:
        means = tuple(v for of in rows if (v := last(of, ACCURACY)) is not None)
        found['unseen clients'] = Number(means, share)
    megabytes = tuple(float(total_bytes(of)[-1]) / 1e6 for of in rows)
    found['MB'] = Number(megabytes, decimal)
    for said, column in (
        ('simulated s', SIMULATED),
        ('epsilon', EPSILON),
        ('seconds', 'time/total_s'),
    ):
        values = tuple(v for of in rows if (v := last(of, column)) is not None)
        if values:
            found[said] = Number(values, decimal)
    return found


def table(found: Sequence[Found], those: Judged | None) -> list[list[str]]:
    """Returns the table of all arms, the first row the headings.

    Args:
      found: The arms.
      those: How their clients fared.
    """
    figures = [numbers(each, those) for each in found]
    heads = list(dict.fromkeys(head for of in figures for head in of))
    tuned = any(each.tuned and each.tuned.values for each in found)
    wrong = any(each.failed for each in found)
    rows = [['', 'runs', *heads, *(['chosen'] if tuned else []), *(['failed'] * wrong)]]
    for each, of in zip(found, figures, strict=True):
        cells = [each.name, str(len(each.outcomes))]
        cells += [str(of[head]) if head in of else '-' for head in heads]
        if tuned:
            cells.append(values_told(each.tuned))
        if wrong:
            cells.append('; '.join(dict.fromkeys(each.failed)))
        rows.append(cells)
    return rows


def values_told(tuned: Tuned | None) -> str:
    """Returns the values that trials chose, in a cell."""
    values = tuned.values if tuned else {}
    return ', '.join(f'{name}={value:g}' for name, value in values.items()) or '-'

"""Which method is best by what, by how much, and from which it cannot be told apart."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from experiments.compare import curves, figures, statistics, verdicts
from experiments.compare.figures import Found, Judged
from experiments.compare.verdicts import Tested
from tff_transfer.algorithms import registry

# What a method is compared with, and no federated method itself.
REFERENCES = ('local',)
# The default target is so far below what the best method comes to.
_BELOW_BEST = 0.01
# So many methods are named that cannot be told apart from one.
_NAMED = 8
_TRAVELLED, _SIMULATED = 'MB, up and down', 'simulated seconds'


@dataclasses.dataclass(frozen=True)
class Standing:
    """Who is best by one figure.

    Attributes:
      by: The figure.
      ranked: The methods that have it, the best first.
      values: Their figures.
      form: How one is written.
      differ: How a difference is written.
      interval: The 95 % interval of a method's figure minus another's, by their names;
        None where there is none.
      apart: Whether two methods can be told apart by it; None where nothing says.
    """

    by: str
    ranked: tuple[str, ...]
    values: dict[str, float]
    form: Callable[[float], str]
    differ: Callable[[float], str]
    interval: Callable[[str, str], tuple[float, float] | None]
    apart: Callable[[str, str], bool | None]

    def row(self) -> list[str]:
        """Returns the cells of a line: who is best, the next, and who is as good."""
        if not self.ranked:
            return [self.by, 'no method', '', '', '']
        best, *others = self.ranked
        cells = [self.by, self._said(best)]
        if not others:
            return [*cells, '', '', '']
        second = others[0]
        difference = self.differ(self.values[best] - self.values[second])
        ends = self.interval(best, second)
        between = 'one seed: no interval'
        if ends is not None:
            between = f'{self.differ(ends[0])} to {self.differ(ends[1])}'
        alike = [name for name in others if self.apart(best, name) is False]
        if all(self.apart(best, name) is None for name in others):
            told = 'one seed does not tell'
        else:
            more = f' and {len(alike) - _NAMED} more' if len(alike) > _NAMED else ''
            told = ', '.join(alike[:_NAMED]) + more or 'none'
        return [*cells, self._said(second), f'{difference} ({between})', told]

    def _said(self, name: str) -> str:
        value = self.values[name]
        # Where adapting to each client's examples is enough.
        told = self.form(value) if value else 'nothing, before any round'
        return f'{name}: {told}'


HEAD = ['by', 'best', 'next', 'difference (95 %)', 'not told apart from the best']


def target_of(found: Sequence[Found]) -> float:
    """Returns the accuracy to reach: a point below the last of the best method."""
    ends = [
        np.mean(
            [figures.last(of.rows, figures.ACCURACY) for of in each.outcomes.values()]
        )
        for each in found
        if each.name not in REFERENCES
    ]
    return float(np.floor(np.round(1000 * (max(ends) - _BELOW_BEST), 6)) / 1000)


def standings(found: Sequence[Found], judged: Judged, target: float) -> list[Standing]:
    """Returns who is best by accuracy, by the worst tenth, by bytes and by time.

    Args:
      found: All methods that came to an end.
      judged: How their clients fared, the same under each.
      target: The accuracy on unseen clients that bytes and time are counted to.
    """
    ranked = [each for each in found if each.name not in REFERENCES]
    names = [each.name for each in judged.found]
    unseen = {
        each.name: judged.values[names.index(each.name)][judged.unseen]
        for each in ranked
    }
    made = [_by_accuracy(unseen), _by_worst(unseen)]
    for cost, said in (
        (_TRAVELLED, f'MB to {target:.1%}'),
        (_SIMULATED, f'simulated seconds to {target:.1%}'),
    ):
        if any(len(curves.curve(each, cost)[0]) for each in ranked):
            made.append(_by_cost(ranked, cost, said, target))
    return made


def _ordered(values: dict[str, float], sign: int) -> tuple[str, ...]:
    return tuple(sorted(values, key=lambda name: sign * values[name]))


def _by_accuracy(unseen: dict[str, np.ndarray]) -> Standing:
    names, values = [*unseen], {n: float(of.mean()) for n, of in unseen.items()}
    pairs = statistics.pairs(np.stack([*unseen.values()]))
    of = {(names[pair.first], names[pair.second]): pair for pair in pairs}

    def interval(first: str, second: str) -> tuple[float, float]:
        if (pair := of.get((first, second))) is not None:
            return pair.low, pair.high
        pair = of[second, first]
        return -pair.high, -pair.low

    return Standing(
        'accuracy, mean over unseen clients',
        _ordered(values, -1),
        values,
        figures.share,
        verdicts.points,
        interval,
        lambda *two: (of.get(two) or of[two[::-1]]).apart,
    )


def _by_worst(unseen: dict[str, np.ndarray]) -> Standing:
    values = {n: float(statistics.worst_tenth(of)) for n, of in unseen.items()}

    def interval(first: str, second: str) -> tuple[float, float]:
        return statistics.worst_interval(unseen[first], unseen[second])

    return Standing(
        'accuracy, mean over the worst tenth of them',
        _ordered(values, -1),
        values,
        figures.share,
        verdicts.points,
        interval,
        lambda *two: _without_zero(interval(*two)),
    )


def _by_cost(found: Sequence[Found], cost: str, said: str, target: float) -> Standing:
    """Returns who reaches a target at the least cost, with each seed."""
    costs = {}
    for each in found:
        of = {
            seed: curves.cost_to(outcome.rows, cost, target)
            for seed, outcome in each.outcomes.items()
        }
        if None not in of.values():
            costs[each.name] = of
    values = {name: float(np.mean([*of.values()])) for name, of in costs.items()}

    def interval(first: str, second: str) -> tuple[float, float] | None:
        common = [seed for seed in costs[first] if seed in costs[second]]
        pairs = [costs[first][seed] - costs[second][seed] for seed in common]
        return statistics.spread_interval(np.array(pairs))

    return Standing(
        said,
        _ordered(values, 1),
        values,
        figures.decimal,
        lambda value: f'{value:+.3g}',
        interval,
        lambda *two: _without_zero(interval(*two)),
    )


def _without_zero(ends: tuple[float, float] | None) -> bool | None:
    return None if ends is None else ends[0] > 0 or ends[1] < 0


def of_references(tested: Tested) -> list[str]:
    """Returns how the best method stands to what is no federated method, in words."""
    ranked = [arm for arm in tested.ranked if tested.names[arm] not in REFERENCES]
    lines = []
    for arm, name in enumerate(tested.names):
        if name in REFERENCES and ranked:
            pair = tested.against(ranked[0], arm)
            told = 'is told' if pair.apart else 'cannot be told'
            lines.append(
                f'Each client alone ({name}) comes to {tested.means[arm]:.2%}, from'
                f' which {tested.names[ranked[0]]} {told} apart: by'
                f' {verdicts.told(pair)} points.'
            )
    return lines


def reasons(names: Sequence[str]) -> dict[str, str]:
    """Returns why methods are not ranked whatever the data are."""
    return {
        name: 'it has all examples in one place, and is no federated method'
        for name in names
        if name in registry.IN_ONE_PLACE
    }

"""The trials of a grid: what was found for each arm, and what that cost."""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping, Sequence

from experiments.compare import tuning
from experiments.compare.grid import Arm
from experiments.compare.pool import Pool
from tff_transfer import options
from tff_transfer.errors import UserError
from tff_transfer.training.config import Config

FOLDER = 'trials'


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What trials came to for an arm.

    Attributes:
      values: The values that were chosen, by flag; none if nothing is sought.
      score: The mean over validation clients with these.
      trials: How many there were.
      failed: Why there is no choice, in one line; empty if there is one.
    """

    values: Mapping[str, float] = dataclasses.field(default_factory=dict)
    score: float | None = None
    trials: int = 0
    failed: str = ''


def check(arms: Sequence[Arm], given: set[str]) -> None:
    """Checks that there is something to tune, and that trials may be made.

    Raises:
      UserError: There is not, or they would tell of clients what was promised not to.
    """
    configs = [arm.configs[0] for arm in arms]
    if any(config.private for config in configs):
        raise UserError(
            '--tune trains on the clients again and again, which --privacy does not'
            ' account for; give rates that were found on other data'
        )
    if not any(tuning.space(config, given) for config in configs):
        raise UserError(
            '--tune has nothing to choose: all rates are given; leave some of them, or'
            ' --tune, out'
        )


def chosen(
    arms: Sequence[Arm], given: set[str], budget: int, folder: pathlib.Path, pool: Pool
) -> list[Tuned]:
    """Makes the trials of all arms, rung by rung, but for those made before.

    Args:
      arms: The arms; trials have the first seed of each.
      given: The flags that are given, which are kept.
      budget: The trials of each arm.
      folder: Where the grid is recorded.
      pool: Makes the trials.

    Returns:
      What was found for each arm.
    """
    bases = [arm.configs[0] for arm in arms]
    left = [tuning.points(tuning.space(config, given), budget) for config in bases]
    found = [Tuned(trials=len(values)) for values in left]
    plans = [tuning.rungs(budget, config) for config in bases]
    for rung in range(max(map(len, plans))):
        there = [i for i, plan in enumerate(plans) if rung < len(plan) and left[i]]
        trials = [
            (i, values, tuning.with_values(bases[i], values), plans[i][rung][1])
            for i in there
            for values in left[i][: plans[i][rung][0]]
        ]
        scores, wrong = _scored([trial[2:] for trial in trials], folder, pool, rung)
        for i in there:
            mine = [place for place, trial in enumerate(trials) if trial[0] == i]
            # The first of equally good ones.
            whole = [place for place in mine if scores[place] is not None]
            whole.sort(key=lambda place: -scores[place])
            left[i] = [trials[place][1] for place in whole]
            if not whole:
                found[i] = dataclasses.replace(
                    found[i], failed=f'in each trial: {wrong[mine[0]]}'
                )
            else:
                best = trials[whole[0]]
                found[i] = Tuned(best[1], scores[whole[0]], found[i].trials)
    return found


def _scored(
    trials: Sequence[tuple[Config, int]],
    folder: pathlib.Path,
    pool: Pool,
    rung: int,
) -> tuple[list[float | None], list[str]]:
    """Returns the score of each trial, None if it failed, and what went wrong."""
    places = [folder / FOLDER / name_of(*trial) for trial in trials]
    missing = [i for i, place in enumerate(places) if _read(place) is None]
    jobs = [
        {
            'config': options.to_dict(trials[i][0]),
            'rounds': trials[i][1],
            'place': str(places[i]),
        }
        for i in missing
    ]
    wrong = [''] * len(trials)
    if jobs:
        said = f'trials, rung {rung + 1}'
        for i, line in zip(missing, pool.do(jobs, said), strict=True):
            wrong[i] = line
    return [_read(place) for place in places], wrong


def name_of(config: Config, rounds: int) -> str:
    """Returns the name of the file of a trial's score."""
    flags = ' '.join([*options.to_flags(config), f'for {rounds}'])
    return f'{hashlib.sha256(flags.encode()).hexdigest()[:16]}.json'


def _read(place: pathlib.Path) -> float | None:
    try:
        return float(json.loads(place.read_text('utf-8'))['score'])
    except (OSError, ValueError, LookupError, TypeError):
        return None

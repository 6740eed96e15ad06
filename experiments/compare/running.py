"""A grid from its flags to what came of each arm."""

import contextlib
import dataclasses
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence

from experiments.compare import grid, on_cluster, outcomes, pool, search, tuning
from experiments.compare.figures import Found
from experiments.compare.grid import Arm
from experiments.compare.outcomes import Outcome
from experiments.compare.search import Tuned
from tff_transfer import options
from tff_transfer.algorithms import registry
from tff_transfer.errors import UserError
from tff_transfer.records import run_directory
from tff_transfer.training.config import Config


@dataclasses.dataclass(frozen=True)
class Plan:
    """A grid that can be run.

    Attributes:
      arms: Its arms.
      left_out: Why others are not among them, by their names.
      given: The flags that were given.
      folder: Where it is recorded.
      processes: How many processes run it.
      budget: The trials of each arm that tune its rates; 0 for none.
      cluster: The address of the cluster that runs it instead, if one does.
    """

    arms: tuple[Arm, ...]
    left_out: Mapping[str, str]
    given: frozenset[str]
    folder: pathlib.Path
    processes: int
    budget: int
    cluster: str | None = None

    def trials_of(self, config: Config) -> list[tuple[int, int]]:
        """Returns how many trials of how many rounds there are of a configuration."""
        if not self.budget or not tuning.space(config, set(self.given)):
            return []
        return tuning.rungs(self.budget, config)

    @property
    def jobs(self) -> tuple[int, int]:
        """How many trials, of all rungs, and how many runs there are."""
        rungs = [rung for arm in self.arms for rung in self.trials_of(arm.configs[0])]
        runs = sum(len(arm.configs) for arm in self.arms)
        return sum(count for count, _ in rungs), runs


def planned(
    given: Mapping[str, Sequence],
    folder: str,
    *,
    processes: int = 1,
    budget: int = 0,
    skip_unfit: bool = False,
    where_it_fits: Sequence[str] = (),
    cluster: str | None = None,
) -> Plan:
    """Returns the grid of some flags, after all checks that need no data.

    Args:
      given: The values of each flag that is given.
      folder: Where it is recorded.
      processes: How many processes run it.
      budget: The trials of each arm.
      skip_unfit: Leave out what cannot be run, instead of refusing the grid.
      where_it_fits: See `grid.arms`.
      cluster: The address of the cluster that runs it instead of processes here.

    Raises:
      UserError: A configuration cannot be, in one line that names it.
    """
    arms = grid.arms(given, where_it_fits)
    unfit = grid.unfit(arms)
    if unfit and (not skip_unfit or len(unfit) == len(arms)):
        (name, why), *others = unfit.items()
        more = f' (so cannot {len(others)} more)' if others else ''
        raise UserError(f'{name} cannot be run: {why}{more}; or give --skip_unfit')
    arms = tuple(arm for arm in arms if arm.name not in unfit)
    if budget:
        search.check(arms, set(given))
    found = Plan(
        arms, unfit, frozenset(given), pathlib.Path(folder), processes, budget, cluster
    )
    with run_directory.writing(found.folder):
        found.folder.mkdir(parents=True, exist_ok=True)
    return found


def run(plan: Plan) -> list[Found]:
    """Makes what is missing of a grid, and returns what came of each arm.

    Raises:
      UserError: Runs that were made before are of other data.
    """
    with contextlib.ExitStack() as stack:
        workers = stack.enter_context(
            on_cluster.opened(plan.cluster)
            if plan.cluster
            else pool.opened(plan.processes)
        )
        tuned: list[Tuned | None] = [None] * len(plan.arms)
        if plan.budget:
            tuned = search.chosen(
                plan.arms, set(plan.given), plan.budget, plan.folder, workers
            )
        runs = [
            (place, tuning.with_values(config, tuned[place].values))
            if plan.budget
            else (place, config)
            for place, arm in enumerate(plan.arms)
            if not (plan.budget and tuned[place].failed)
            for config in arm.configs
        ]
        folders = [
            grid.folder_of(plan.folder, plan.arms[place].name, config)
            for place, config in runs
        ]
        missing = [
            number
            for number, (_, config) in enumerate(runs)
            if not outcomes.finished(folders[number], config)
        ]
        jobs = [
            {'config': options.to_dict(runs[n][1]), 'place': str(folders[n])}
            for n in missing
        ]
        wrong = dict(zip(missing, workers.do(jobs, 'runs'), strict=True))
    found: list[dict[int, Outcome]] = [{} for _ in plan.arms]
    failed = [[of.failed] if of and of.failed else [] for of in tuned]
    for number, (place, config) in enumerate(runs):
        if line := wrong.get(number):
            failed[place].append(f'seed {config.training.seed}: {line}')
        else:
            found[place][config.training.seed] = outcomes.read(folders[number])
    _check_same_data(plan, [of for each in found for of in each.values()])
    return [
        Found(arm.name, *rest)
        for arm, *rest in zip(plan.arms, found, map(tuple, failed), tuned, strict=True)
    ]


def _check_same_data(plan: Plan, found: Sequence[Outcome]) -> None:
    kinds = {arm.configs[0].data for arm in plan.arms}
    if len(kinds) == 1 and len({outcome.data for outcome in found}) > 1:
        raise UserError(
            f'some runs in {plan.folder} were made of other data than the others; give'
            ' another --runs'
        )


def facts(plan: Plan, found: Sequence[Found]) -> dict[str, str]:
    """Returns what the reader of a grid's report is to know first."""
    config = plan.arms[0].configs[0]
    told = {
        'data': ' '.join(options.to_flags(config.data)) or config.data.dataset,
        'arms': f'{len(plan.arms)}, {plan.jobs[1]} runs in all',
    }
    first = next((of for each in found for of in each.outcomes.values()), None)
    if first is not None:
        clients = first.clients
        unseen = clients.unseen
        told['clients judged'] = (
            f'{unseen.sum():,} unseen, {(~unseen).sum():,} seen;'
            f' {clients.examples.sum():,.0f} test examples'
        )
    trained = [
        config
        for arm in plan.arms
        if registry.name_of((config := arm.configs[0]).algorithm)
        not in registry.OF_ONE_ROUND
    ]
    rounds = sorted({config.training.rounds for config in trained})
    told['rounds'] = ', '.join(map(str, rounds)) or '1'
    seeds = sorted({of.training.seed for arm in plan.arms for of in arm.configs})
    told['seeds'] = ', '.join(map(str, seeds))
    if plan.budget:
        steps = tuning.rungs(plan.budget, trained[0])
        told['tuning'] = 'of each arm ' + ', then '.join(
            f'{count} for {rounds} rounds' for count, rounds in steps
        )
    return told


def command(module: str) -> str:
    """Returns what was typed to start a program."""
    return shlex.join(['python', '-m', module, *sys.argv[1:]])

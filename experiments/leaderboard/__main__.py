"""Which federated method suits your clients, and what it costs: all are tried.

  python -m experiments.leaderboard --data_path=mine.npz --processes=2
  make compare DATA=mine.npz

Each method that suits the data is tuned by as many trials on validation clients, run
with each seed, and judged on the same test examples of clients who never trained.
leaderboard.html is written into --runs, with leaderboard.png, .csv and .tex. What was
done already is kept: the same command goes on. All flags of experiments.compare may be
given, of which some have other defaults: --algorithm=all methods, --rounds=30,
--evaluate_every=5, --seed=0..2, --unseen_fraction=0.25, --test_fraction=0.25,
--server_optimizer=sgd. See docs/compare.md.
"""

import dataclasses

from absl import flags

from experiments import command_line, pictures
from experiments.compare import __main__ as compare
from experiments.compare import axes, figures, report, running
from experiments.compare.axes import Axis
from experiments.compare.verdicts import UNSEEN
from experiments.leaderboard import picture, standings
from tff_transfer.algorithms import registry
from tff_transfer.errors import UserError
from tff_transfer.records import plots
from tff_transfer.records.report import text_table

# What is given if nothing else is, for the methods and data that can be with it. The
# server takes the mean of the clients' weights; so many clients are unseen, and so many
# examples test ones, that methods which differ can be told apart; there is a clock.
DEFAULTS = {
    'dataset': ('by_client',),
    'algorithm': tuple(n for n in registry.NAMES if n not in registry.IN_ONE_PLACE),
    'rounds': (30,),
    'evaluate_every': (5,),
    'unseen_fraction': (0.25,),
    'test_fraction': (0.25,),
    'server_optimizer': ('sgd',),
    'baselines': (False,),
    'fleet': ('drawn',),
    'seed': (0, 1, 2),
}
# What a run or a trial costs one process on handwriting, in seconds: at all, a round,
# and an evaluation of a run whose clients have models of their own.
_SECONDS, _SECONDS_A_ROUND, _SECONDS_OF_OWN = 3.0, 0.04, 1.5

_NOTE = (
    'On test examples of clients who never trained, the same for all methods. By'
    " accuracy two methods are told apart where the p of Wilcoxon's signed-rank test,"
    " with Holm's correction for all pairs, is below 0.05; by the worst tenth where"
    ' the interval by drawing clients does not hold 0; by bytes and time, which are'
    ' counted until the mean over unseen clients is evaluated to reach the target with'
    " each seed, where Student's interval over seeds does not hold 0."
)


def given(values: flags.FlagValues = flags.FLAGS) -> dict[str, Axis]:
    """Returns the flags of the grid: those given, and the study's own defaults."""
    ours = {name: Axis(it) for name, it in DEFAULTS.items()}
    return {**ours, **axes.given(values)}


def estimate(plan: running.Plan) -> float:
    """Returns about how many minutes a plan takes if nothing of it is done yet."""
    seconds = 0.0
    for arm in plan.arms:
        config = arm.configs[0]
        trials = plan.trials_of(config)
        seconds += sum(n * (_SECONDS + _SECONDS_A_ROUND * r) for n, r in trials)
        name, rounds = registry.name_of(config.algorithm), config.training.rounds
        rounds = 1 if name in registry.OF_ONE_ROUND else rounds
        run = _SECONDS + _SECONDS_A_ROUND * rounds
        if name in registry.BY_OWN_MODELS:
            run += _SECONDS_OF_OWN * rounds / config.training.evaluate_every
        seconds += run * len(arm.configs)
    return seconds / plan.processes / 60


def page_of(
    plan: running.Plan, found: list[figures.Found], target: float | None
) -> tuple[report.Page, object | None]:
    """Returns the page, and the picture on it, None if there is nothing to draw.

    Raises:
      UserError: No method came to an end.
    """
    ended = [each for each in found if each.outcomes]
    if not ended:
        why = next((line for each in found for line in each.failed), 'none was run')
        raise UserError(f'no method came to an end; the first: {why}')
    left = {each.name: each.failed[0] for each in found if not each.outcomes}
    judged = figures.judged(ended)
    page = report.Page(
        'Which method suits these clients?',
        running.facts(plan, ended),
        ended,
        judged,
        {**plan.left_out, **left, **standings.reasons(registry.NAMES)},
        running.command('experiments.leaderboard'),
    )
    tested = page.tested
    if not tested or tested[0].on != UNSEEN or len(tested[0].names) < 2:
        return page, None
    if target is None:
        target = standings.target_of(ended)
    stands = standings.standings(ended, judged, target)
    figure = picture.drawn(judged, tested[0], stands[2:])
    page = dataclasses.replace(
        page,
        awards=[standings.HEAD, *(standing.row() for standing in stands)],
        note=' '.join([*standings.of_references(tested[0]), _NOTE]),
        picture=plots.svg(figure),
    )
    return page, figure


def main() -> None:
    """Tries all methods; prints and writes who stands where."""
    values = flags.FLAGS
    if not values.data_path and not values['dataset'].present:
        raise UserError('give --data_path, your clients, or another --dataset')
    plan = running.planned(
        given(),
        values.runs,
        processes=values.processes,
        budget=values.tune,
        skip_unfit=True,
        where_it_fits=[name for name in DEFAULTS if name not in axes.given()],
    )
    trials, runs = plan.jobs
    print(
        f'methods: {len(plan.arms)}; trials: {trials}; runs: {runs}; for a head on'
        f' features of 400 clients about {estimate(plan):.0f} min, if nothing is done'
        ' yet',
        flush=True,
    )
    page, figure = page_of(plan, running.run(plan), values.target)
    path = report.write(plan.folder, 'leaderboard', page)
    if figure is not None:
        pictures.write(figure, str(plan.folder / 'leaderboard.png'))
    print(text_table(figures.table(page.found, page.judged)))
    for row in page.awards:
        print('  '.join(row))
    for name, why in page.left_out.items():
        print(f'left out: {name}: {why}')
    print(f'report: {path}')


if __name__ == '__main__':
    compare.define_flags('runs/leaderboard')
    flags.adopt_module_key_flags(compare)
    flags.DEFINE_integer(
        'tune', 8, 'Trials of each method that choose its rates.', lower_bound=0
    )
    flags.DEFINE_float(
        'target',
        None,
        'The accuracy that bytes and time are counted to; a point below what the best'
        ' method comes to, if not given.',
        0,
        1,
    )
    command_line.run(main)

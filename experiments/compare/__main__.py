"""Compares what differs in flags: a grid of runs, told apart on the same clients.

  python -m experiments.compare --dataset=by_client --data_path=mine.npz \\
      --algorithm=fedavg,fedprox,scaffold --fedprox.mu=0.01,0.1 --seed=0..4 \\
      --runs=runs/mine --processes=2 --tune=8

Every flag of a run may take several values: those separated by commas are an axis,
a..b are the whole numbers from a to b, and of a flag that takes a list itself a
semicolon separates the values (--hidden_units="512,256;128"). A flag is for the runs
in which it has an effect; an option of a method, such as --fedprox.mu, for that method
alone. What was done already is kept: the same command goes on. compare.html is
written into --runs, with compare.csv, compare.tex and compare_pairs.csv.
With --cluster_address=HOST:PORT the runs are made by a Ray cluster, one for each of its
processors (docs/cluster.md).
See docs/compare.md.
"""

from collections.abc import Sequence

from absl import flags

from experiments import command_line
from experiments.compare import axes, figures, report, running
from tff_transfer import options
from tff_transfer.errors import UserError
from tff_transfer.records.report import text_table
from tff_transfer.training.config import Config


def define_flags(runs: str) -> None:
    """Defines the flags of a grid.

    Args:
      runs: Where it is recorded if nothing else is said.
    """
    axes.define_flags(Config)
    flags.adopt_module_key_flags(options)
    flags.DEFINE_string('runs', runs, 'The folder of all runs, and of the report.')
    flags.DEFINE_integer(
        'processes', 1, 'Processes, among which threads are divided.', lower_bound=1
    )


def _cluster(grid: dict[str, Sequence], processes: int) -> str | None:
    """Takes the address of a cluster out of a grid's flags, if it is there.

    Raises:
      UserError: There are several, or other flags do not go with it.
    """
    if 'cluster' in grid.get('runtime', ()):
        raise UserError(
            '--runtime=cluster divides a run; here --cluster_address alone spreads'
            ' whole runs over the cluster: leave out --runtime'
        )
    found = grid.pop('cluster_address', (None,))
    if len(found) > 1:
        raise UserError('--cluster_address is no axis of a grid: give one')
    if found[0] and processes > 1:
        raise UserError(
            '--cluster_address has a run for each processor of the cluster: leave out'
            ' --processes'
        )
    return found[0]


def main() -> None:
    """Runs the grid; prints and writes what came of it."""
    given = flags.FLAGS
    grid = dict(axes.given())
    cluster = _cluster(grid, given.processes)
    plan = running.planned(
        grid,
        given.runs,
        cluster=cluster,
        processes=given.processes,
        budget=given.tune,
        skip_unfit=given.skip_unfit,
    )
    trials, runs = plan.jobs
    print(f'arms: {len(plan.arms)}; trials: {trials}; runs: {runs}', flush=True)
    found = running.run(plan)
    judged = figures.judged(found)
    page = report.Page(
        f'Compared: {len(found)} arms',
        running.facts(plan, found),
        found,
        judged,
        plan.left_out,
        running.command('experiments.compare'),
    )
    path = report.write(plan.folder, 'compare', page)
    print(text_table(figures.table(report.ranked(found, page.tested), judged)))
    for name, why in plan.left_out.items():
        print(f'left out: {name}: {why}')
    print(f'report: {path}')


if __name__ == '__main__':
    define_flags('runs/compare')
    flags.DEFINE_integer(
        'tune',
        0,
        'Trials, for each arm, that choose rates that are not given, on validation'
        ' clients; 0 for none.',
        lower_bound=0,
    )
    flags.DEFINE_bool('skip_unfit', False, 'Leave out what cannot be run.')
    command_line.run(main)

"""Generative models of clients' images: from nothing, transferred, and distilled.

  python -m experiments.federated_generation --data_path=handwriting_by_writer.npz \\
      --output=runs/generation
  python -m experiments.federated_generation --data=phantoms --models=CVAE
  python -m experiments.federated_generation --data_path=handwriting_by_writer.npz \\
      --release=1000

Without --data_path writers are drawn. `report.html`, `table.md` and pictures are
written into --output, and below `runs/` each run's own report. What is finished is kept
there; the same command goes on after a kill. With --release the run of
--released alone is made, and its images are written into --output as `release.npz`,
which `--dataset=by_client` reads. See docs/generation.md.
"""

import pathlib
import shlex
import sys
import time

import tensorflow as tf
from absl import flags

import tff_transfer as tt
from experiments import command_line, pieces
from experiments.federated_generation import (
    judging,
    people,
    plans,
    public_images,
    releasing,
    report,
)
from experiments.federated_generation.plans import Plan
from experiments.federated_generation.runs import Study
from tff_transfer import progress
from tff_transfer.errors import UserError


def chosen(models: list[str]) -> tuple[str, ...]:
    """Returns the kinds of `--models`.

    Raises:
      UserError: There is none of a name.
    """
    unknown = [name for name in models if name not in plans.KINDS]
    if unknown or not models:
        raise UserError(
            f'--models has {", ".join(unknown) or "nothing"}, but must be of'
            f' {", ".join(plans.KINDS)}'
        )
    return tuple(dict.fromkeys(models))


def opened(kinds: tuple[str, ...]) -> Study:
    """Returns the study of the flags, in its folder."""
    given = flags.FLAGS
    folder = pathlib.Path(given.output)
    source = people.load(given.data, given.data_path, given.max_clients)
    study = {
        'data': source.data.content_fingerprint,
        'rounds': given.rounds,
        'epsilon': given.epsilon,
    }
    pieces.open_folder(folder, study)
    judge = judging.judge(source.data)
    return Study(folder, source, judge, given.rounds, given.epsilon)


def release(plan: Plan, count: int) -> None:
    """Trains what a plan needs, and writes images of it with their epsilon."""
    study = opened((plan.kind,))
    if plan.start not in (plans.PRETRAINED, plans.SCRATCH):
        study.figures(plans.origin(plan.kind))
    run = study.figures(plan)
    # Not a draw of the study's figures.
    images, labels = study.images(plan, count, seed=2)
    path = study.folder / 'release.npz'
    releasing.write(path, images, labels, run['epsilon'], run['delta'])
    print(f'{path}: {count} images of {plan.name}')
    print(releasing.promise(run['epsilon'], run['delta']))


def generated(study: Study, found: report.Found) -> dict:
    """Returns images of the best run of all, and of the best private one."""

    def distance(plan: Plan) -> float:
        return found[plan]['quality'][-1]['frechet']

    private = [p for p in found if found[p]['epsilon'] < float('inf')]
    groups = [[p for p in found if p.start != plans.PRETRAINED], private]
    best = dict.fromkeys(min(of, key=distance) for of in groups if of)
    return {
        f'FedDF, {p.name}': study.images(p, public_images.PUBLIC, seed=3)[0]
        for p in best
    }


def main() -> None:
    """Runs the study, prints its tables and writes its report."""
    given, start = flags.FLAGS, time.perf_counter()
    tf.get_logger().setLevel('ERROR')
    kinds = chosen(given.models)
    if given.release is not None:
        named = {plan.name: plan for plan in plans.plans(tuple(plans.KINDS))}
        if given.released not in named:
            raise UserError(
                f'--released={given.released} is none of {"; ".join(named)}'
            )
        with tt.runtime.use_compiled():
            release(named[given.released], given.release)
        return
    study = opened(kinds)
    data, found, public = study.source.data, {}, {}
    wanted = plans.plans(kinds)
    digits = given.data == 'digits'
    total = len(wanted) + 5 * digits
    with tt.runtime.use_compiled(), progress.bar(total=total, desc='study') as bar:
        for plan in wanted:
            bar.set_postfix_str(plan.name)
            found[plan] = study.figures(plan)
            bar.update()
        if digits:
            public = public_images.measured(
                study.folder, data, generated(study, found), bar
            )
    seen = study.judge.clients
    facts = {
        'data': f'{data.name}: {seen} clients train, of {len(data)};'
        f' {len(data.y):,} images',
        'pretrained on': study.source.before.name,
        'rounds': f'{given.rounds}; {plans.COHORT} clients in each, but where it is'
        ' private',
        'seconds': f'{time.perf_counter() - start:.0f}',
    }
    command = shlex.join(
        ['python', '-m', 'experiments.federated_generation', *sys.argv[1:]]
    )
    floor = study.judge.floor
    path = report.write(study.folder, study.place, found, floor, public, facts, command)
    print((study.folder / 'table.md').read_text('utf-8'))
    print(f'report: {path}')


if __name__ == '__main__':
    flags.DEFINE_enum(
        'data', 'digits', ['digits', 'phantoms'], 'Of writers, or lungs at 64 pixels.'
    )
    flags.DEFINE_string(
        'data_path', None, 'Digits by client, as of --dataset=by_client; or drawn.'
    )
    flags.DEFINE_integer('max_clients', 150, 'Clients at most.', lower_bound=1)
    flags.DEFINE_list('models', list(plans.KINDS), f'Of {", ".join(plans.KINDS)}.')
    flags.DEFINE_integer('rounds', 24, 'Rounds of a run.', lower_bound=4)
    flags.DEFINE_float('epsilon', 8.0, 'Of private runs.', lower_bound=1e-3)
    flags.DEFINE_integer(
        'release', None, 'Write so many images of one run instead.', lower_bound=1
    )
    flags.DEFINE_string('released', plans.RELEASED, 'The run that these are of.')
    flags.DEFINE_string('output', 'runs/generation', 'The folder of the report.')
    command_line.run(main)

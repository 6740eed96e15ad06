"""Boosting across clients: FedBoost, AdaBoost and boosted trees, beside what is simple.

  python -m experiments.fedboost --data_path=handwriting_by_writer.npz \\
      --backbones=embedded,mobilenet_v2_035_feature_vector --output=runs/fedboost

Base predictors are heads on backbones and on cuts of them, and heads of single clients.
Without --data_path writers are drawn. `report.html`, `table.md` and pictures are
written into --output. What is finished is kept there; the same command goes on after a
kill. See docs/boosting.md.
"""

import pathlib
import shlex
import sys
import time

import numpy as np
import tensorflow as tf
from absl import flags

from experiments import command_line, pieces
from experiments.fedboost import (
    forests,
    people,
    picking,
    pool,
    report,
    weighting,
)
from tff_transfer import files, progress, runtime
from tff_transfer.boosting import examples
from tff_transfer.data import federated
from tff_transfer.data.federated import FederatedData
from tff_transfer.features import ByExample


def base_predictors(
    folder: pathlib.Path, data: FederatedData, groups: people.Groups, handles
) -> pool.Pool:
    """Returns the base predictors, from a file of the study or trained."""
    path = folder / 'predictors.npz'
    if not path.exists():
        made = pool.made(data, pool.sources(data, handles), groups)
        with files.replacing(path) as new, open(new, 'wb') as file:
            np.savez(file, names=made.names, bytes=made.bytes, answers=made.answers)
    with np.load(path) as file:
        return pool.Pool(tuple(map(str, file['names'])), file['bytes'], file['answers'])


def setting_of(
    folder: pathlib.Path, data: FederatedData, groups: people.Groups, made: pool.Pool
) -> weighting.Setting:
    """Returns what ensembles are learnt from and judged by."""
    answers = data.with_x(made.answers.reshape(len(data.y), -1))

    def shaped(of: examples.Examples) -> examples.Examples:
        return of.with_x(of.x.reshape(len(of.x), *made.answers.shape[1:]))

    return weighting.Setting(
        made,
        shaped(examples.of(answers, groups.learners)),
        shaped(examples.of(answers, groups.choosers)),
        shaped(people.whole(answers, groups.unseen)),
        flags.FLAGS.rounds,
        folder,
    )


def tables_of(
    data: FederatedData, seen: np.ndarray, unseen: np.ndarray
) -> forests.Table:
    """Returns what trees are grown and judged on."""
    return forests.Table(
        examples.of(data, seen), people.test_of(data, seen), people.whole(data, unseen)
    )


def of_trees(folder: pathlib.Path, data, source, groups, bar) -> dict[str, dict]:
    """Returns what trees come to, on features and on a drawn table."""
    epsilon = flags.FLAGS.epsilon
    vectors = data.with_x(np.asarray(source.vectors(data)))
    apart = data.with_x(ByExample()(vectors.x))
    seen = groups.seen, groups.unseen
    of_table = people.table()
    # A quarter of its few clients judge.
    dealt = federated.split_clients(len(of_table), 0.25)
    return {
        f'{source.name} of {data.name}': forests.measured(
            folder,
            'features',
            tables_of(vectors, *seen),
            tables_of(apart, *seen),
            epsilon,
            bar,
        ),
        of_table.name: forests.measured(
            folder, 'table', tables_of(of_table, *dealt), None, epsilon, bar
        ),
    }


def main() -> None:
    """Runs the study, prints its tables and writes its report."""
    given, start = flags.FLAGS, time.perf_counter()
    folder = pathlib.Path(given.output)
    tf.get_logger().setLevel('ERROR')
    forests.library()  # To say before long work what is missing.
    data = people.load(given.data_path, given.max_clients)
    groups = people.groups(data)
    pieces.open_folder(
        folder,
        {
            'data': data.content_fingerprint,
            'backbones': given.backbones,
            'rounds': given.rounds,
            'epsilon': given.epsilon,
        },
    )
    source = pool.sources(data, given.backbones[:1])[0]
    runs = len(weighting.SENT) * 4 + 3 + len(picking.VARIANTS) + 11
    with runtime.use_compiled(), progress.bar(total=runs, desc='study') as bar:
        made = base_predictors(folder, data, groups, given.backbones)
        print(f'{len(made.names)} base predictors', flush=True)
        setting = setting_of(folder, data, groups, made)
        weighted = weighting.measured(setting, range(given.seeds), bar)
        print('FedBoost: done', flush=True)
        scaled = pool.scaled(source, data, groups.seen)
        adaptive = {}
        for name in picking.VARIANTS:
            adaptive[name] = pieces.piece(
                folder,
                f'adaboost, {name}',
                lambda name=name: picking.run(
                    folder,
                    name,
                    examples.of(scaled, groups.seen),
                    people.whole(scaled, groups.unseen),
                ),
            )
            bar.update()
            bar.set_postfix_str(f'AdaBoost, {name}')
        print('AdaBoost: done', flush=True)
        trees = of_trees(folder, data, source, groups, bar)
    facts = {
        'data': f'{data.name}: {len(data)} clients, {len(data.y):,} examples',
        'clients': f'{len(groups.before)} trained the base predictors,'
        f' {len(groups.learners)} learn weights, {len(groups.choosers)} choose rates,'
        f' {len(groups.unseen)} are unseen',
        'backbones': ', '.join(given.backbones),
        'seeds': str(given.seeds),
        'seconds': f'{time.perf_counter() - start:.0f}',
    }
    command = shlex.join(['python', '-m', 'experiments.fedboost', *sys.argv[1:]])
    found = weighted, adaptive, trees
    path = report.write(folder, setting, found, facts, command)
    print((folder / 'table.md').read_text('utf-8'))
    print(f'report: {path}')


if __name__ == '__main__':
    flags.DEFINE_string(
        'data_path', None, 'Examples by client, as of --dataset=by_client; or drawn.'
    )
    flags.DEFINE_list(
        'backbones',
        ['embedded'],
        'As of emnist_fedavg; trees and AdaBoost take the first.',
    )
    flags.DEFINE_integer('max_clients', None, 'Clients at most.', lower_bound=1)
    flags.DEFINE_integer('rounds', 300, 'Rounds of FedBoost.', lower_bound=10)
    flags.DEFINE_integer('seeds', 3, 'Seeds of FedBoost, from 0.', lower_bound=1)
    flags.DEFINE_float('epsilon', 8.0, 'Of trees with noise.', lower_bound=1e-3)
    flags.DEFINE_string('output', 'runs/fedboost', 'The folder of the report.')
    command_line.run(main)

"""What clients may send instead of weights: distillation beside federated averaging.

  python -m experiments.federated_distillation --data_path=handwriting_by_writer.npz \\
      --runs=runs/distillation

trains a head with a hidden layer on the embedded backbone's features by each method
that distils, beside federated averaging and clients alone, on the same digits dealt out
in two ways: at random (IID), and with labels by Dirichlet's distribution. Without
--data_path writers are drawn. Each run is recorded in a folder under `--runs`; what was
done already is kept, so that the same command goes on after a kill. A table for each
dealing and a picture of accuracy against bytes stand there at the end;
docs/distillation.md has what was found.
"""

import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from experiments import command_line, tables
from experiments.claims import study
from tff_transfer import backbones, features, files, progress, runtime
from tff_transfer.algorithms import registry
from tff_transfer.data import by_client, federated, partition, synthetic_writers
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.records import report
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

# Of drawn writers, where no file is given.
EACH = 60
UNSEEN, HIDDEN, RATE, EPOCHS = 0.1, 64, 0.1, 2
# Of clients whose SGD has soft targets: these do not let its gradient vanish, and steps
# at the rate of the others overshoot.
RATES = dict.fromkeys(('fedntd', 'feddistill', 'fedgkt'), 0.01)
# Rounds between evaluations, the first of them after so many.
EVERY = 2
_PUBLIC = {'public_clients': 5}
OPTIONS = {'feddf': {**_PUBLIC, 'epochs': 2}, 'dsfl': _PUBLIC, 'fedmd': _PUBLIC}
METHODS = (
    *('fedavg', 'fedntd', 'feddf', 'fedgen', 'dsfl'),
    *('fedmd', 'feddistill', 'fedgkt', 'local'),
)
# Of whom a round has one, and of fewer nobody would be left.
_LEAST = 20


class Curve(NamedTuple):
    """How a run went, where it was evaluated, from round 0.

    Attributes:
      rounds: The rounds.
      seen: Accuracy on the test examples of clients that train.
      unseen: That on those of clients that never do.
      up: Bytes that all clients sent till then.
      down: Those that they got.
    """

    rounds: list[int]
    seen: list[float]
    unseen: list[float]
    up: list[int]
    down: list[int]


def curve(rows: Sequence[Mapping]) -> Curve:
    """Returns how a run went, by its rows of `metrics.csv`."""
    found, up, down = Curve([], [], [], [], []), 0, 0
    for row in rows:
        up += row['bytes/up'] or 0
        down += row['bytes/down'] or 0
        if row['seen/accuracy'] is not None:
            now = row['round'], row['seen/accuracy'], row['unseen/accuracy'], up, down
            for values, value in zip(found, now, strict=True):
                values.append(value)
    return found


def configured(name: str, rounds: int, cohort: int, seed: int) -> Config:
    """Returns the configuration of one run."""
    training = {}
    if name in registry.BY_SERVER_OPTIMIZER:
        training = {'server_optimizer': 'sgd', 'server_learning_rate': 1.0}
    if name in registry.BY_OWN_MODELS:
        training['baselines'] = False
    training = TrainingConfig(
        rounds=rounds,
        clients_per_round=cohort,
        client_epochs=EPOCHS,
        client_learning_rate=RATES.get(name, RATE),
        evaluate_every=EVERY,
        checkpoint_every=rounds,
        seed=seed,
        **training,
    )
    options = registry.options(name)(**OPTIONS.get(name, {}))
    model = ModelConfig('mlp', hidden_units=(HIDDEN,))
    return Config(DataConfig(unseen_fraction=UNSEEN), model, training, options)


def load(path: str | None, clients: int) -> FederatedData:
    """Returns the clients of a file, or drawn writers, with features as inputs.

    Raises:
      UserError: It cannot be read, has too few clients, or no images.
    """
    if path is None:
        data = synthetic_writers.generate(clients, EACH, seed=0, classes=10)
    else:
        data = by_client.load(path)
    data = data.select(range(min(clients, len(data))))
    if len(data) < _LEAST:
        raise UserError(
            f'{data.name} has {len(data)} clients, but the study needs {_LEAST}; give'
            ' more'
        )
    found = features.extract(backbones.load('embedded'), data)
    return data.with_x(np.asarray(found))


def dealings(alpha: float) -> dict[str, Callable]:
    """Returns ways of dealing examples to clients, by their names."""
    return {
        'IID': partition.iid,
        f'labels by Dirichlet({alpha:g})': lambda *args, **options: partition.dirichlet(
            *args, alpha=alpha, **options
        ),
    }


def dealt(data: FederatedData, deal: Callable) -> FederatedData:
    """Returns the examples of all clients dealt to as many, of one scale."""
    again = deal(data.x, data.y, len(data), is_test=~data.is_train, name=data.name)
    seen, _ = federated.split_clients(len(again), UNSEEN)
    return again.with_x(features.standardisation(again, seen)(np.asarray(again.x)))


def reached(of: Curve, target: float) -> int | None:
    """Returns the place at which unseen clients' accuracy is a target, or None."""
    places = np.flatnonzero(np.asarray(of.unseen) >= target)
    return int(places[0]) if len(places) else None


def percent(values: Sequence[float]) -> str:
    """Returns a mean over seeds, with its deviation if there are several."""
    return study.spread(values) if len(values) > 1 else f'{values[0]:.1%}'


def rows(
    found: Mapping[str, Sequence[Curve]], clients: int, target: float
) -> list[list[str]]:
    """Returns the table of a dealing: a line for each method.

    Args:
      found: How each method went, by seed.
      clients: How many a round has.
      target: The accuracy on unseen clients that is to be reached.
    """
    table = [
        [
            *('method', 'judged by', 'seen', 'unseen', 'kB up', 'kB down'),
            *(f'rounds to {target:.0%}', f'MB to {target:.0%}'),
        ]
    ]
    for name, curves in found.items():
        last, places = curves[0], [reached(each, target) for each in curves]
        messages = clients * max(last.rounds[-1], 1)
        pairs = list(zip(curves, places, strict=True))
        rounds = [math.inf if at is None else each.rounds[at] for each, at in pairs]
        sent = [
            math.inf if at is None else (each.up[at] + each.down[at]) / 1e6
            for each, at in pairs
        ]
        limit = last.rounds[-1]
        all_sent = math.ceil((last.up[-1] + last.down[-1]) / 1e6)
        table.append(
            [
                name,
                'own model' if name in registry.BY_OWN_MODELS else "server's",
                percent([each.seen[-1] for each in curves]),
                percent([each.unseen[-1] for each in curves]),
                f'{last.up[-1] / messages / 1e3:.1f}',
                f'{last.down[-1] / messages / 1e3:.1f}',
                study.rounds_needed(rounds, limit),
                study.needed(sent, all_sent, '.1f'),
            ]
        )
    return table


def drawn(found: Mapping[str, Mapping[str, Sequence[Curve]]]) -> Figure:
    """Draws accuracy on unseen clients against bytes, a panel for each dealing."""
    figure = Figure((10, 4.5), layout='constrained')
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (dealing, methods) in zip(panels, found.items(), strict=True):
        for number, (name, curves) in enumerate(methods.items()):
            first = curves[0]
            sent = (np.asarray(first.up) + first.down) / 1e6
            told = sent > 0  # A logarithm has no place for nothing.
            if told.any():
                axes.plot(
                    sent[told],
                    100 * np.asarray(first.unseen)[told],
                    marker='osv^D*Px'[number % 8],
                    markersize=4,
                    label=name,
                )
        axes.set(title=dealing, xscale='log', xlabel='MB sent and got by all clients')
        axes.grid(alpha=0.3)
    panels[0].set_ylabel('accuracy on unseen clients, %')
    panels[-1].legend(loc='center left', bbox_to_anchor=(1, 0.5), frameon=False)
    return figure


def check(methods: Sequence[str]) -> None:
    """Refuses methods that the study does not have.

    Raises:
      UserError: There is one.
    """
    unknown = set(methods) - set(METHODS)
    if unknown:
        raise UserError(
            f'--methods has {min(unknown)!r}, but must be of {", ".join(METHODS)}'
        )


def main() -> None:
    """Trains what is missing; prints and writes the tables and the picture."""
    given = flags.FLAGS
    check(given.methods)
    folder = pathlib.Path(given.runs)
    found, ways = {}, dealings(given.alpha)
    runs = len(ways) * len(given.methods) * given.seeds
    with runtime.use_compiled():
        data = load(given.data_path, given.max_clients)
        split = {name: dealt(data, deal) for name, deal in ways.items()}
    with progress.bar(total=runs, desc='study', unit='run') as bar:
        for number, (dealing, clients) in enumerate(split.items()):
            curves = found.setdefault(dealing, {})
            for name in given.methods:
                for seed in range(given.seeds):
                    config = configured(
                        name, given.rounds, given.clients_per_round, seed
                    )
                    place = folder / f'{("iid", "skewed")[number]}-{name}-{seed}'
                    result = loop.train(config, place, data=clients)
                    curves.setdefault(name, []).append(curve(result.rows))
                    bar.update()
    told = {
        dealing: rows(curves, given.clients_per_round, given.target)
        for dealing, curves in found.items()
    }
    page = [f'## {name}\n\n{tables.markdown(t, texts=2)}' for name, t in told.items()]
    files.write_text(folder / 'table.md', '\n'.join(page))
    with files.replacing(folder / 'bytes.png') as path:
        drawn(found).savefig(path, format='png', dpi=110)
    for dealing, table in told.items():
        print(f'\n{dealing}\n{report.text_table(table)}')


if __name__ == '__main__':
    flags.DEFINE_string(
        'data_path', None, 'Images by client, as of --dataset=by_client; or drawn.'
    )
    flags.DEFINE_integer('max_clients', 100, 'Clients at most.', lower_bound=1)
    flags.DEFINE_list('methods', list(METHODS), 'The methods to compare.')
    flags.DEFINE_integer('rounds', 20, 'Rounds of each run.', lower_bound=1)
    flags.DEFINE_integer('clients_per_round', 10, 'Clients of a round.', lower_bound=1)
    flags.DEFINE_float('alpha', 0.3, "Dirichlet's concentration of labels.", 1e-3)
    flags.DEFINE_float('target', 0.98, 'The accuracy to reach.', 0, 1)
    flags.DEFINE_integer('seeds', 1, 'Seeds of each run, from 0.', lower_bound=1)
    flags.DEFINE_string('runs', 'runs/distillation', 'Where runs are recorded.')
    command_line.run(main)

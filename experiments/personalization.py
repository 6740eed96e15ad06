"""For whom does joining pay? Every method with own models, on the same clients.

  python -m experiments.personalization --dataset=by_client --data_path=mine.npz \\
      --runs=runs/personalization

trains a head with a hidden layer on the embedded backbone by each method that leaves
clients models of their own, beside federated averaging, each client alone and all
examples in one place. The clients' learning rate of each method is the one of `RATES`
that is best on a fifth of the clients' training examples, which is held out, in a run
of its own: no test example chooses anything. Each run is recorded in a folder under
`--runs`; what was done already is kept. `--partition_classes=ALPHA` takes an npz file
of `x_train`, `y_train`, `x_test` and `y_test`, and deals its examples to `--partition`
clients with labels by Dirichlet's distribution. A table and a picture stand there at
the end; docs/personalization.md has what was found.
"""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
from absl import flags
from matplotlib.figure import Figure

from experiments import command_line, tables
from tff_transfer import files, options, progress
from tff_transfer.algorithms import registry
from tff_transfer.data import partition, validation
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.records import personalization, report
from tff_transfer.records.personalization import PARTS, PERSONAL, Personalization
from tff_transfer.training import loop, sources
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.result import Result

# Rates are tried with so many epochs of adaptation; among which a run chooses then.
RATES, TRIED = (0.05, 0.2), 5
EPOCHS = (1, 5, 20)
# Those of a linear head alone; and clients alone, who are there as a baseline.
_LEFT_OUT = ('local', 'personalridge', 'personalprototype')
# Whose run gives the other models too: its own training is federated averaging.
FIRST = 'fedavgft'
METHODS = (
    FIRST,
    *(n for n in registry.BY_OWN_MODELS if n not in (FIRST, *_LEFT_OUT)),
)
MODEL = ModelConfig(hidden_units=(64,))
# Sizes of clients are put together in so many groups.
_GROUPS = 5
_CHOSEN = ('client_learning_rate', 'evaluate_every', 'baselines', 'algorithm')


def configured(config: Config, name: str, rate: float, **training) -> Config:
    """Returns the configuration of one run.

    Args:
      config: What all have in common.
      name: The method's.
      rate: The clients' learning rate.
      **training: What else of the training differs.
    """
    if name in registry.BY_SERVER_OPTIMIZER:
        training |= {'server_optimizer': 'sgd', 'server_learning_rate': 1.0}
    training = dataclasses.replace(
        config.training,
        client_learning_rate=rate,
        evaluate_every=config.training.rounds,
        **training,
    )
    model = MODEL if config.model == ModelConfig() else config.model
    # The clients are given, so that this alone of their flags has an effect.
    data = DataConfig(
        unseen_fraction=config.data.unseen_fraction, split_seed=config.data.split_seed
    )
    return Config(data, model, training, registry.options(name)())


def epochs_of(name: str, epochs: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Returns the epochs of adaptation of a method that takes them."""
    return {} if name in registry.IN_ONE_PASS else {'adaptation_epochs': epochs}


def load(config: Config, clients: int | None, alpha: float) -> FederatedData:
    """Loads the clients, or makes them of examples that have none.

    Args:
      config: Names them, or the file.
      clients: How many there are to be; as in the file if None.
      alpha: Dirichlet's concentration, by `partition.dirichlet`.

    Raises:
      UserError: The file is not of that kind.
    """
    if clients is None:
        return sources.load_data(config, sources.load_backbone(config))
    path = pathlib.Path(config.data.data_path or '')
    try:
        with np.load(path) as file:
            x, y = (
                np.concatenate([file[f'{what}_{part}'] for part in ('train', 'test')])
                for what in 'xy'
            )
            is_test = np.arange(len(y)) >= len(file['y_train'])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f'--partition deals out a npz file of x_train, y_train, x_test and y_test,'
            f' but --data_path={path}: {error}'
        ) from error
    name = f'{path.stem}, alpha {alpha:g}'
    return partition.dirichlet(x, y, clients, alpha=alpha, is_test=is_test, name=name)


def best_rate(
    config: Config, name: str, data: FederatedData, folder: pathlib.Path
) -> float:
    """Returns the rate by which own models are best on held-out examples.

    Args:
      config: What all runs have in common.
      name: The method's name.
      data: Clients whose test examples were held out of their training examples.
      folder: Where the runs are recorded.
    """
    found = []
    for rate in RATES:
        tried = configured(
            config, name, rate, baselines=False, **epochs_of(name, (TRIED,))
        )
        result = loop.train(tried, folder / f'rate-{name}-{rate:g}', data=data)
        values = result.per_client['seen'].values()
        found.append(float(np.mean(list(values))))
    return RATES[int(np.nanargmax(found))]


def with_models_of(first: Personalization, result: Result) -> Personalization:
    """Returns a run's own models beside the other models of the first run."""
    found = {**first.predictions, PERSONAL: result.predictions}
    data, task = result.setup.data, result.task
    return personalization.compare(data, task, found, first.trained)


def cells(values: np.ndarray, those: np.ndarray) -> tuple[float, float, float]:
    """Returns mean and standard deviation over some clients, and the worst tenth's."""
    worst = personalization.worst_tenth(values[those], highest=True)
    return float(np.mean(values[those])), float(np.std(values[those])), worst


def over_seeds(values: Sequence[float]) -> str:
    """Returns a mean, with the standard deviation if there is more than one value."""
    spread = f' ± {100 * np.std(values):.1f}' if len(values) > 1 else ''
    return f'{100 * np.mean(values):.1f}{spread}'


def rows(
    found: Mapping[str, Sequence[Personalization]], megabytes: Mapping[str, str]
) -> list[list[str]]:
    """Returns the table: a line for each other model and each method.

    Args:
      found: What each method came to, by seed.
      megabytes: What a client sends in a round.
    """
    first = found[FIRST]
    whats = ('mean', 'spread', 'worst tenth')
    heads = [f'{part}: {what}' for part in PARTS for what in whats]
    table = [['model', *heads, 'hurt, unseen', 'MB up']]
    models = {
        model: [each.values[model] for each in first]
        for model in personalization.MODELS
        if model != PERSONAL
    }
    models |= {n: [each.values[PERSONAL] for each in of] for n, of in found.items()}
    for name, values in models.items():
        line = [name]
        for part in PARTS:
            of_seeds = [
                cells(mine, each.parts[part])
                for mine, each in zip(values, first, strict=True)
            ]
            line += map(over_seeds, zip(*of_seeds, strict=True))
        hurt = [np.mean(each.gain[~each.seen] < 0) for each in found.get(name, ())]
        line.append(over_seeds(hurt) if hurt else '')
        table.append([*line, megabytes.get(name, '')])
    return table


def drawn(found: Mapping[str, Sequence[Personalization]]) -> Figure:
    """Draws the gain of each method by the size of clients, seen and unseen ones."""
    figure = Figure((10, 5), layout='constrained')
    panels = figure.subplots(1, 2, sharey=True)
    for axes, part in zip(panels, PARTS, strict=True):
        for number, (name, of_seeds) in enumerate(found.items()):
            sizes, gain = (
                np.concatenate([getattr(e, what)[e.parts[part]] for e in of_seeds])
                for what in ('train_examples', 'gain')
            )
            groups = np.array_split(np.argsort(sizes, kind='stable'), _GROUPS)
            axes.plot(
                [np.mean(sizes[group]) for group in groups],
                [100 * np.mean(gain[group]) for group in groups],
                marker='osv^D*'[number % 6],
                linestyle='-' if number < 10 else '--',
                label=name,
            )
        axes.axhline(0, color='black', linewidth=0.8)
        axes.set(title=f'{part} clients', xlabel='training examples of a client')
    panels[0].set_ylabel('own model less the better of global and alone, points')
    panels[1].legend(loc='center left', bbox_to_anchor=(1, 0.5))
    return figure


def check(config: Config) -> None:
    """Refuses flags that the study would override.

    Raises:
      UserError: There is one.
    """
    command_line.refuse(config, _CHOSEN, '--methods')
    unknown = set(flags.FLAGS.methods) - set(METHODS)
    if unknown:
        raise UserError(
            f'--methods has {min(unknown)!r}, but must be of {", ".join(METHODS)}'
        )


def main() -> None:
    """Trains what is missing; prints and writes the table and the picture."""
    config, given = options.from_flags(Config), flags.FLAGS
    check(config)
    folder = pathlib.Path(given.runs)
    data = load(config, given.partition, given.partition_classes)
    seed = config.training.seed
    held = validation.held_out(
        data, range(len(data)), fraction=validation.HELD_OUT, seed=seed
    )
    found, megabytes = {}, {}
    names = [FIRST, *(name for name in given.methods if name != FIRST)]
    for name in progress.bar(names, desc='methods'):
        rate, found[name] = best_rate(config, name, held, folder), []
        for number in range(seed, seed + given.seeds):
            is_first = name == FIRST
            made = configured(
                config,
                name,
                rate,
                baselines=is_first,
                seed=number,
                **epochs_of(name, EPOCHS),
            )
            result = loop.train(made, folder / f'{name}-{number}', data=data)
            first = result.personalization
            if not is_first:
                first = with_models_of(found[FIRST][number - seed], result)
            found[name].append(first)
        sent = sum(row['bytes/up'] or 0 for row in result.rows)
        clients = config.training.clients_per_round * config.training.rounds
        megabytes[name] = f'{sent / clients / 1e6:.2f}'
        said = (line for each in found[name] for line in each.hurt())
        print(f'{name}: rate {rate:g}', *said, sep='\n  ', flush=True)
    table = rows(found, megabytes)
    files.write_text(folder / 'table.md', tables.markdown(table, texts=1))
    with files.replacing(folder / 'gain.png') as path:
        drawn(found).savefig(path, format='png')
    print(report.text_table(table))


if __name__ == '__main__':
    options.define_flags(Config)
    flags.adopt_module_key_flags(options)
    flags.DEFINE_list('methods', list(METHODS), 'The methods to compare.')
    flags.DEFINE_integer('partition', None, 'Make so many clients.', lower_bound=2)
    flags.DEFINE_float(
        'partition_classes', 0.3, "Dirichlet's concentration of their labels.", 0
    )
    flags.DEFINE_integer('seeds', 1, 'Seeds of each run, from --seed.', lower_bound=1)
    flags.DEFINE_string('runs', 'runs/personalization', 'Where runs are recorded.')
    command_line.run(main)

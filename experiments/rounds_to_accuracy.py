"""Rounds that each federated method takes to an accuracy on unseen clients.

  python -m experiments.rounds_to_accuracy --dataset=by_client --data_path=mine.npz \\
      --runs=runs/rounds --rounds=100

Each method trains a linear head on the embedded backbone, and the CNN from nothing,
with each of `RATES`, and the rate with the fewest rounds on seen clients' test
examples counts (where none reached `--target`, the best accuracy there): unseen
clients choose nothing. Each run is recorded in a folder of its own under `--runs`:
what was done already is kept. A table and a picture stand there at the end.
"""

import dataclasses
import pathlib

from absl import flags
from matplotlib.figure import Figure

from experiments import command_line, tables
from tff_transfer import files, options
from tff_transfer.algorithms import registry
from tff_transfer.records import metrics, report
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.model_config import ModelConfig

STARTS = {'head': ModelConfig(), 'cnn': ModelConfig(model='cnn')}
# Clients' learning rates, or FedSGD's server's, that are tried where none are given.
RATES = {'head': (0.1, 0.3), 'cnn': (0.1, 0.3)}
# Rounds between evaluations, which cost the CNN more than its training.
EVERY = {'head': 1, 'cnn': 5}
COLUMNS = ('start', 'method', 'rate', 'rounds', 'at last', 'MB a client, up')
# Not the baselines, those of one round and of no accuracy, nor those whose clients are
# judged by models of their own, on fewer examples.
METHODS = tuple(
    name
    for name in registry.NAMES
    if name not in (*registry.OF_ALL, *registry.OF_GANS, *registry.BY_OWN_MODELS)
)
# What the study chooses itself, of the flags that it takes with all others.
_CHOSEN = (
    *('client_learning_rate', 'server_optimizer', 'server_learning_rate'),
    *('evaluate_every', 'on_divergence'),
    *(
        'model',
        'algorithm',
    ),
)


def configured(config: Config, start: str, name: str, rate: float) -> Config:
    """Returns the configuration of one run.

    The server takes the clients' mean weights where it has no optimizer of its own;
    of FedSGD, whose clients send gradients, `rate` is the server's.
    """
    training = dataclasses.replace(
        config.training,
        client_learning_rate=rate,
        evaluate_every=EVERY[start],
        on_divergence='continue',
    )
    if name in registry.BY_SERVER_OPTIMIZER:
        server = rate if name == 'fedsgd' else 1.0
        training = dataclasses.replace(
            training, server_optimizer='sgd', server_learning_rate=server
        )
    return dataclasses.replace(
        config,
        model=STARTS[start],
        training=training,
        algorithm=registry.options(name)(),
    )


def check(config: Config) -> None:
    """Refuses flags that the study would override.

    Raises:
      UserError: There is one.
    """
    command_line.refuse(config, _CHOSEN, '--starts, --methods and --rates')


def rounds_to(rows: list[dict], column: str, target: float) -> int | None:
    """Returns the first round whose value in a column is the target or more."""
    evaluated = (row for row in rows if row[column] is not None)
    return next((row['round'] for row in evaluated if row[column] >= target), None)


def best(runs: dict[float, list[dict]], target: float) -> float:
    """Returns the rate whose run is best on the test examples of seen clients.

    Args:
      runs: The rows of each rate's run.
      target: The accuracy to reach.
    """

    def badness(rate: float) -> tuple[float, float]:
        rounds = rounds_to(runs[rate], 'seen/accuracy', target)
        last = runs[rate][-1]['seen/accuracy']
        return (float('inf') if rounds is None else rounds), -last

    return min(runs, key=badness)


def row(
    start: str, name: str, runs: dict[float, list[dict]], target: float, clients: int
) -> list[str]:
    """Returns a line of the table: what a method came to with its best rate."""
    rate = best(runs, target)
    rows = runs[rate]
    rounds = rounds_to(rows, 'unseen/accuracy', target)
    sent = sum(r['bytes/up'] for r in rows[1:] if rounds and r['round'] <= rounds)
    return [
        start,
        name,
        f'{rate:g}',
        '-' if rounds is None else str(rounds),
        f'{rows[-1]["unseen/accuracy"]:.1%}',
        '-' if rounds is None else f'{sent / clients / 1e6:.1f}',
    ]


def drawn(table: list[list[str]], target: float, most: int) -> Figure:
    """Draws rounds by method, a panel for each start; no bar where it was missed."""
    starts = list(dict.fromkeys(line[0] for line in table))
    figure = Figure((4.2 * len(starts), 5), layout='constrained')
    panels = figure.subplots(1, len(starts), squeeze=False)[0]
    for axes, start in zip(panels, starts, strict=True):
        lines = [line for line in table if line[0] == start]
        lines.sort(key=lambda line: most + 1 if line[3] == '-' else int(line[3]))
        names = [line[1] for line in lines]
        axes.barh(names, [0 if line[3] == '-' else int(line[3]) for line in lines])
        for place, line in enumerate(lines):
            if line[3] == '-':
                axes.text(0, place, f' not in {most}: {line[4]}', va='center')
        axes.invert_yaxis()
        axes.set(xlabel=f'rounds to {target:.0%} on unseen clients', title=start)
    return figure


def main() -> None:
    """Trains what is missing; prints and writes the table and the picture."""
    config, given = options.from_flags(Config), flags.FLAGS
    check(config)
    folder, table = pathlib.Path(given.runs), []
    for start in given.starts:
        for name in given.methods:
            if (start, name) == ('head', 'moon'):
                continue  # A linear head has no layers below its last to compare.
            runs = {}
            for rate in map(float, given.rates or RATES[start]):
                run_dir = folder / f'{start}-{name}-{rate:g}'
                loop.train(configured(config, start, name, rate), run_dir)
                runs[rate] = metrics.read(run_dir / 'metrics.csv')
            clients = config.training.clients_per_round
            table.append(row(start, name, runs, given.target, clients))
            print('  '.join(table[-1]), flush=True)
    text = tables.markdown([COLUMNS, *table], texts=2)
    files.write_text(folder / 'table.md', text)
    with files.replacing(folder / 'rounds.png') as path:
        drawn(table, given.target, config.training.rounds).savefig(path, format='png')
    print(report.text_table([list(COLUMNS), *table]))


if __name__ == '__main__':
    options.define_flags(Config)
    flags.adopt_module_key_flags(options)
    flags.DEFINE_float('target', 0.98, 'The accuracy to reach.', 0, 1)
    flags.DEFINE_list('rates', [], 'The learning rates to try instead.')
    flags.DEFINE_list('methods', list(METHODS), 'The methods to compare.')
    flags.DEFINE_multi_enum('starts', list(STARTS), list(STARTS), 'What is trained.')
    flags.DEFINE_string('runs', 'runs/rounds_to_accuracy', 'Where runs are recorded.')
    command_line.run(main)

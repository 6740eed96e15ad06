"""Bytes that each compression takes to an accuracy on unseen clients.

  python -m experiments.compression --dataset=by_client --data_path=mine.npz \\
      --runs=runs/compression --rounds=100

Federated averaging trains the model with each of `SCHEMES`, at each of `--rates`, and
the rate with the fewest rounds on seen clients' test examples counts (where none
reached `--target`, the best accuracy there): unseen clients choose nothing. Each run is
recorded in a folder of its own under `--runs`: what was done already is kept. A table
and a picture stand there at the end; docs/compression.md has what was found.
"""

import dataclasses
import itertools
import pathlib

from absl import flags
from matplotlib.figure import Figure

from experiments import command_line, tables
from experiments.rounds_to_accuracy import best, rounds_to
from tff_transfer import files, options
from tff_transfer.compression.registry import DOWN, UP
from tff_transfer.compression.sparse import RandomK, TopK
from tff_transfer.records import metrics, report
from tff_transfer.training import loop
from tff_transfer.training.config import Config

# What is compressed by, up and down.
_NONE = UP.options('none')()
_UNIFORM, _EDEN = UP.options('uniform'), UP.options('eden')
_DOWN = DOWN.options('uniform8')()
SCHEMES = {
    'none': (_NONE, _NONE),
    'float16': (UP.options('float16')(), _NONE),
    'uniform, 8 bits': (_UNIFORM(8), _NONE),
    'uniform, 4 bits': (_UNIFORM(4), _NONE),
    'uniform, 2 bits': (_UNIFORM(2), _NONE),
    'uniform, 2 bits, rotated': (_UNIFORM(2, rotate=True), _NONE),
    'qsgd, 4 bits': (UP.options('qsgd')(4), _NONE),
    'topk, 10 %': (TopK(0.1), _NONE),
    'topk, 1 %': (TopK(0.01), _NONE),
    'randomk, 10 %': (RandomK(0.1), _NONE),
    'randomk, 10 %, unbiased': (RandomK(0.1, feedback=False), _NONE),
    'efsign': (UP.options('efsign')(), _NONE),
    'terngrad': (UP.options('terngrad')(), _NONE),
    'drive': (UP.options('drive')(), _NONE),
    'eden, 2 bits': (_EDEN(2), _NONE),
    'eden, 4 bits': (_EDEN(4), _NONE),
    'product': (UP.options('product')(), _NONE),
    'powersgd, rank 1': (UP.options('powersgd')(1), _NONE),
    'none, uniform8 down': (_NONE, _DOWN),
    'topk, 1 %, uniform8 down': (TopK(0.01), _DOWN),
}
COLUMNS = (
    *('compression', 'rate', 'rounds', 'at last', 'MB up', 'MB up, coded', 'MB down'),
)
# What the study chooses itself, of the flags that it takes with all others.
_CHOSEN = (
    *('client_learning_rate', 'server_optimizer', 'server_learning_rate'),
    'evaluate_every',
    *(
        'compression',
        'compression_down',
    ),
)


def configured(config: Config, name: str, rate: float) -> Config:
    """Returns the configuration of one run; the server takes the mean weights."""
    up, down = SCHEMES[name]
    training = dataclasses.replace(
        config.training,
        client_learning_rate=rate,
        server_optimizer='sgd',
        server_learning_rate=1.0,
        evaluate_every=1,
    )
    return dataclasses.replace(
        config, training=training, compression=up, compression_down=down
    )


def check(config: Config) -> None:
    """Refuses flags that the study would override.

    Raises:
      UserError: There is one.
    """
    command_line.refuse(config, _CHOSEN, '--schemes and --rates')


def row(name: str, runs: dict[float, list[dict]], target: float) -> list[str]:
    """Returns a line of the table: what a scheme came to at its best rate."""
    rate = best(runs, target)
    rows = runs[rate]
    rounds = rounds_to(rows, 'unseen/accuracy', target)
    cells = []
    for column in ('bytes/up', 'bytes/up_coded', 'bytes/down'):
        # Where there is no coded column, nothing is coded.
        found = column if column in rows[0] else 'bytes/up'
        total = sum(r[found] for r in rows[1:] if rounds and r['round'] <= rounds)
        cells.append('-' if rounds is None else f'{total / 1e6:.2f}')
    last = f'{rows[-1]["unseen/accuracy"]:.1%}'
    return [name, f'{rate:g}', '-' if rounds is None else str(rounds), last, *cells]


def drawn(curves: dict[str, list[dict]], target: float) -> Figure:
    """Draws accuracy on unseen clients against the bytes that all clients sent.

    Args:
      curves: The rows of each scheme's run; those that compress what comes down, which
        is not drawn, are left out.
      target: The accuracy to reach.
    """
    figure = Figure((9, 6), layout='constrained')
    axes = figure.subplots()
    shown = {n: rows for n, rows in curves.items() if SCHEMES[n][1] is _NONE}
    for number, (name, rows) in enumerate(shown.items()):
        sent = itertools.accumulate(r['bytes/up'] for r in rows[1:])
        axes.plot(
            [total / 1e6 for total in sent],
            [r['unseen/accuracy'] for r in rows[1:]],
            color=f'C{number % 10}',
            linestyle=('-', '--')[number // 10],
            linewidth=1,
            label=name,
        )
    axes.axhline(target, color='grey', linewidth=0.5)
    axes.set(xscale='log', xlabel='MB that all clients sent')
    axes.set_ylim(target - 0.015, target + 0.01)
    axes.set_ylabel('accuracy on unseen clients')
    axes.legend(fontsize='small', ncols=2, loc='lower right')
    return figure


def main() -> None:
    """Trains what is missing; prints and writes the table and the picture."""
    config, given = options.from_flags(Config), flags.FLAGS
    check(config)
    folder, table, curves = pathlib.Path(given.runs), [], {}
    for name in given.schemes or SCHEMES:
        runs = {}
        for rate in map(float, given.rates):
            place = ''.join(c if c.isalnum() else '-' for c in f'{name} {rate:g}')
            loop.train(configured(config, name, rate), folder / place)
            runs[rate] = metrics.read(folder / place / 'metrics.csv')
        table.append(row(name, runs, given.target))
        curves[name] = runs[best(runs, given.target)]
        print('  '.join(table[-1]), flush=True)
    text = tables.markdown([COLUMNS, *table], texts=1)
    files.write_text(folder / 'table.md', text)
    with files.replacing(folder / 'compression.png') as path:
        drawn(curves, given.target).savefig(path, format='png', dpi=90)
    print(report.text_table([list(COLUMNS), *table]))


if __name__ == '__main__':
    options.define_flags(Config)
    flags.adopt_module_key_flags(options)
    flags.DEFINE_float('target', 0.98, 'The accuracy to reach.', 0, 1)
    flags.DEFINE_list('rates', [0.1, 0.3], "Clients' learning rates to try.")
    flags.DEFINE_multi_enum('schemes', None, list(SCHEMES), 'Those to compare.')
    flags.DEFINE_string('runs', 'runs/compression', 'Where runs are recorded.')
    command_line.run(main)

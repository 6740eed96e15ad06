"""What a guarantee costs in accuracy, from a pretrained start and from nothing.

  python -m experiments.private_accuracy --dataset=by_client --data_path=mine.npz \\
      --runs=runs/private --rounds=50 --clients_per_round=50 --seed=1

Each kind of `--privacies` trains a linear head on the embedded backbone, and the CNN
from nothing, with each of `--epsilons`; `inf` is without a promise. Each run is
recorded in a folder of its own under `--runs`: what was done already is kept. A table
and a picture stand there at the end: accuracy on clients who never took part.
"""

import dataclasses
import math
import pathlib
from collections.abc import Sequence

from absl import flags
from matplotlib.figure import Figure

from experiments import command_line, tables
from tff_transfer import files, options
from tff_transfer.errors import UserError
from tff_transfer.privacy import registry
from tff_transfer.privacy.nothing import NoPrivacy
from tff_transfer.records import metrics, report
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.model_config import ModelConfig

STARTS = {'head': ModelConfig(), 'cnn': ModelConfig(model='cnn')}
# What clients' updates are clipped to, and their learning rate: those of the best
# accuracy at epsilon 4 on handwriting, of few that were tried (docs/privacy.md).
CLIPS = {'head': 0.1, 'cnn': 0.3}
RATES = {'head': 0.1, 'cnn': 0.1}
KINDS = tuple(name for name in registry.NAMES if name != 'none')
USUAL = ('central', 'tree', 'banded')
# What the study chooses itself, of the flags that it takes with all others.
_CHOSEN = (
    *('client_learning_rate', 'server_optimizer', 'server_learning_rate'),
    *('weighting', 'evaluate_every'),
    *(
        'model',
        'privacy',
    ),
)


def configured(config: Config, start: str, kind: str, epsilon: float) -> Config:
    """Returns the configuration of one run; the server takes the clients' mean."""
    training = dataclasses.replace(
        config.training,
        client_learning_rate=RATES[start],
        server_optimizer='sgd',
        server_learning_rate=1.0,
        weighting='uniform',
        evaluate_every=config.training.rounds,
    )
    privacy = NoPrivacy()
    if math.isfinite(epsilon):
        privacy = registry.options(kind)(target_epsilon=epsilon, clip=CLIPS[start])
    return dataclasses.replace(
        config, model=STARTS[start], training=training, privacy=privacy
    )


def check(config: Config, kinds: Sequence[str]) -> None:
    """Refuses flags that the study would override, and kinds that are not there.

    Raises:
      UserError: There is one.
    """
    command_line.refuse(config, _CHOSEN, '--starts, --privacies and --epsilons')
    if unknown := set(kinds) - set(KINDS):
        raise UserError(
            f'--privacies has {min(unknown)!r}, but must be of {", ".join(KINDS)}'
        )


def drawn(found: dict[tuple[str, str], list[float]], epsilons: list[float]) -> Figure:
    """Draws accuracy by epsilon, a line for each start and kind of privacy."""
    figure = Figure((6, 4), layout='constrained')
    axes = figure.subplots()
    for (start, kind), values in found.items():
        style = '-' if start == 'head' else '--'
        axes.plot(
            range(len(epsilons)), values, style, marker='o', label=f'{start}, {kind}'
        )
    axes.set_xticks(range(len(epsilons)), [f'{epsilon:g}' for epsilon in epsilons])
    axes.set(xlabel='epsilon', ylabel='accuracy on unseen clients')
    axes.legend()
    return figure


def main() -> None:
    """Trains what is missing; prints and writes the table and the picture."""
    config, given = options.from_flags(Config), flags.FLAGS
    check(config, given.privacies)
    folder = pathlib.Path(given.runs)
    epsilons = [float(epsilon) for epsilon in given.epsilons]
    header = ['start', 'privacy', *(f'{epsilon:g}' for epsilon in epsilons)]
    found = {}
    for start in given.starts:
        for kind in given.privacies:
            values = found[start, kind] = []
            for epsilon in epsilons:
                named = kind if math.isfinite(epsilon) else 'none'
                run_dir = folder / f'{start}-{named}-{epsilon:g}'
                loop.train(configured(config, start, kind, epsilon), run_dir)
                last = metrics.read(run_dir / 'metrics.csv')[-1]
                values.append(last['unseen/accuracy'])
    table = [[*of, *(f'{v:.1%}' for v in values)] for of, values in found.items()]
    files.write_text(folder / 'table.md', tables.markdown([header, *table], texts=2))
    with files.replacing(folder / 'accuracy.png') as path:
        drawn(found, epsilons).savefig(path, format='png')
    print(report.text_table([header, *table]))


if __name__ == '__main__':
    options.define_flags(Config)
    flags.adopt_module_key_flags(options)
    flags.DEFINE_list('epsilons', ['2', '4', '8', 'inf'], 'The epsilons to keep to.')
    flags.DEFINE_list('privacies', list(USUAL), f'Of {", ".join(KINDS)}.')
    flags.DEFINE_multi_enum('starts', list(STARTS), list(STARTS), 'What is trained.')
    flags.DEFINE_string('runs', 'runs/private_accuracy', 'Where runs are recorded.')
    command_line.run(main)

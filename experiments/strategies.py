"""Fine-tuning strategy x start x BatchNorm policy on the same clients, as a table.

  python -m experiments.strategies --dataset=by_client --data_path=mine.npz \\
      --pretrained=mobilenet_v2_035_feature_vector --runs=runs/strategies

Each cell is a run of its own in the folder of `--runs`: what was done already is kept
and not done again. `--only=all` makes the rows of one strategy.
"""

import dataclasses
import itertools
import pathlib
import statistics

from absl import flags

from experiments import command_line, learning_rates, tables
from tff_transfer import files, options
from tff_transfer.records import metrics, report
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.model_config import FINETUNE

COLUMNS = (
    'finetune',
    'start',
    'BatchNorm',
    'unseen accuracy',
    's a round',
    'bytes a client and round, up',
)


def cells(only: list[str]) -> list[tuple[str, str, str]]:
    """Returns strategies, starts and policies that make sense together."""
    starts = ('embedded', 'ImageNet', 'random')
    found = [
        (finetune, start, 'frozen')
        for finetune, start in itertools.product(FINETUNE, starts)
        if (finetune, start) != ('head_then_all', 'random')
    ]
    found += itertools.product(['all'], starts, ('aggregate', 'local'))
    found += [('all', 'ImageNet', 'group_norm'), ('all', 'random', 'group_norm')]
    found.sort(key=lambda cell: FINETUNE.index(cell[0]))
    return [cell for cell in found if cell[0] in only]


def configured(
    config: Config, pretrained: str, finetune: str, start: str, policy: str
) -> Config:
    """Returns the configuration of one cell."""
    name, weights = {
        'embedded': ('embedded', None),
        'ImageNet': ('MobileNetV2_035', pretrained),
        'random': ('MobileNetV2_035', 'random'),
    }[start]
    model = dataclasses.replace(
        config.model,
        backbone=name,
        backbone_weights=weights,
        finetune=finetune,
        batch_norm=policy,
        top_layers=6 if finetune == 'top' else None,
        head_rounds=config.training.rounds // 2
        if finetune == 'head_then_all'
        else None,
    )
    training = config.training
    if finetune != 'head':  # Alone it is trained as by default, with FedAdam.
        training = dataclasses.replace(
            training,
            client_learning_rate=learning_rates.rate(
                finetune, policy, pretrained=start != 'random'
            ),
            server_optimizer='sgd',
            server_learning_rate=1.0,
        )
    return dataclasses.replace(config, model=model, training=training)


def row(run_dir: pathlib.Path) -> list[str]:
    """Returns what a run came to."""
    rows = metrics.read(run_dir / 'metrics.csv')
    # Those who were too late to send anything are in neither.
    senders = rows[-1]['train/clients'] + rows[-1]['train/dropped_clients']
    seconds = statistics.median(r['time/round_s'] for r in rows[2:])
    return [
        f'{rows[-1]["unseen/accuracy"]:.1%}',
        f'{seconds:.2f}',
        f'{rows[-1]["bytes/up"] / senders:,.0f}',
    ]


def main() -> None:
    """Trains what is missing and prints the table, also into the folder of runs."""
    config = options.from_flags(Config)
    table = [list(COLUMNS)]
    folder = pathlib.Path(flags.FLAGS.runs)
    for cell in cells(flags.FLAGS.only):
        run_dir = folder / '-'.join(cell)
        loop.train(configured(config, flags.FLAGS.pretrained, *cell), run_dir)
        table.append([*cell, *row(run_dir)])
        print('  '.join(table[-1]), flush=True)
    files.write_text(folder / 'table.md', tables.markdown(table, texts=3))
    print(report.text_table(table))


if __name__ == '__main__':
    options.define_flags(Config)
    flags.adopt_module_key_flags(options)
    flags.DEFINE_string(
        'pretrained',
        None,
        'The SavedModel of a MobileNetV2_035 with ImageNet weights.',
        required=True,
    )
    flags.DEFINE_string('runs', 'runs/strategies', 'Where the runs are recorded.')
    flags.DEFINE_list('only', list(FINETUNE), 'The strategies to try.')
    command_line.run(main)

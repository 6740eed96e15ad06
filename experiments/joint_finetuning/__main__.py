"""Three parties with unlike images and one backbone: each alone, or jointly.

CIFAR-10, MNIST and Fashion-MNIST are at one party each. A frozen pretrained backbone
gives features; what stands on it, a hidden layer and a last one, is fine-tuned by each
party alone or jointly (`--algorithm=jointft`), with one head of 30 classes in common,
or with own heads of 10 above a hidden layer in common. Beside that the same examples
are dealt to three parties at random, so that these are alike.

  python -m experiments.joint_finetuning --cifar_10=cifar10.npz --mnist=mnist.npz \\
      --fashion_mnist=fashion_mnist.npz --backbone=mobilenet_v2_035_feature_vector

A path left out is what Keras downloads. `report.html` in `--output` has the table, the
pictures and what they say. Validation parts choose rates and rounds; test examples
choose nothing.
"""

import itertools
import pathlib
import shlex
import sys
from collections.abc import Sequence

from absl import flags

from experiments import command_line, pictures
from experiments.joint_finetuning import parties, runs, told
from tff_transfer import backbones, files, progress, runtime
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.records import report

# Fewer training examples of a party leave too few to stop by.
LEAST = 10


def sizes_of(given: Sequence[str], sources: Sequence[FederatedData]) -> list[int]:
    """Returns the numbers of training examples that `--examples` gives.

    Raises:
      UserError: One is no number, too small to hold some out, or more than a source
        has.
    """
    most = min(int(data.num_train[0]) for data in sources)
    for size in given:
        if not size.isdecimal() or not LEAST <= int(size) <= most:
            raise UserError(
                f'--examples={size} is not a number from {LEAST} to {most}, which is'
                ' what the smallest source has'
            )
    return [int(size) for size in given]


def main() -> None:
    """Runs the study, prints its table and writes report and pictures."""
    given = flags.FLAGS
    folder = pathlib.Path(given.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f'--output={folder} cannot be made ({error.strerror}); choose another'
        ) from error
    sources = [parties.load(s, given[s.flag].value) for s in parties.SOURCES]
    sizes, seeds = sizes_of(given.examples, sources), list(range(given.seeds))
    backbone = backbones.load(given.backbone)
    how = {'rounds': given.rounds, 'hidden_units': given.hidden_units}
    settings = []
    with (
        runtime.use_compiled(),
        progress.bar(total=2 * len(sizes), desc='study', unit='setting') as bar,
    ):
        of_features = parties.as_features(backbone, sources)
        for name, size in itertools.product((runs.UNLIKE, runs.ALIKE), sizes):
            settings.append(runs.measure(name, of_features, size, seeds, **how))
            print('\n'.join(told.verdicts(settings[-1:])), flush=True)
            bar.update()
    facts = {
        'parties': ', '.join(
            f'{data.name} ({data.num_train[0]:,} images and {data.num_test[0]:,} tests)'
            for data in sources
        ),
        'backbone': f'{backbone.name}, {backbone.image_size[0]} px, frozen',
        'trained': f'a hidden layer of {given.hidden_units} and the last one',
        'seeds': f'{len(seeds)}',
        'command': f'python -m experiments.joint_finetuning {shlex.join(sys.argv[1:])}',
    }
    files.write_text(folder / 'report.html', told.page(settings, facts))
    for setting in settings:
        kind = 'unlike' if setting.name == runs.UNLIKE else 'alike'
        path = folder / f'{kind}_{setting.examples}.png'
        pictures.write(told.drawn(setting), str(path))
    print(report.text_table(told.table(settings)))
    print(f'report: {folder / "report.html"}')


if __name__ == '__main__':
    for source in parties.SOURCES:
        flags.DEFINE_string(
            source.flag, None, f'An npz of {source.name}; downloaded if not given.'
        )
    flags.DEFINE_string('backbone', 'embedded', 'As that of emnist_fedavg.')
    flags.DEFINE_list('examples', ['100', '400'], 'Training examples of each party.')
    flags.DEFINE_integer('seeds', 3, 'Seeds, from 0.', lower_bound=1)
    flags.DEFINE_integer('rounds', 150, 'The most rounds of a run.', lower_bound=2)
    flags.DEFINE_integer('hidden_units', 64, 'Of the hidden layer.', lower_bound=1)
    flags.DEFINE_string('output', 'runs/joint_finetuning', 'The folder of the report.')
    command_line.run(main)

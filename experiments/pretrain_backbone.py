"""Makes the embedded backbone again, or another network, on synthetic writers.

  python -m experiments.pretrain_backbone --seed=0 --output=runs/backbone
  python -m experiments.pretrain_backbone --network=ResNet18 --output=runs/resnet

writes a SavedModel in TF-Hub's feature-vector form and MODEL_CARD.md beside it. It
goes on from its last checkpoint if it is started again. Runs take the folder as
--backbone, or as the --backbone_weights of the network by name.
"""

import dataclasses
import os
import pathlib
import textwrap
import time

import numpy as np
import tensorflow as tf
from absl import flags

from experiments import command_line, linear_probe
from tff_transfer import files, progress
from tff_transfer.backbones import pretraining
from tff_transfer.errors import UserError

WRITERS_AT_A_TIME = 200
CHECKPOINT_SECONDS = 120
HELD_OUT_WRITERS = 100


def train(settings: pretraining.Settings, work_dir: pathlib.Path):
    """Trains, from the last checkpoint in `work_dir` if there is one.

    Args:
      settings: What to train.
      work_dir: A folder of these settings alone.

    Returns:
      The trained network with its head, and the seconds that it took in all.
    """
    training = pretraining.Pretraining(settings)
    seconds = tf.Variable(0.0, dtype=tf.float64)
    checkpoint = tf.train.Checkpoint(training=training, seconds=seconds)
    manager = tf.train.CheckpointManager(checkpoint, work_dir, max_to_keep=1)
    checkpoint.restore(manager.latest_checkpoint)

    batch = settings.batch_size
    examples = WRITERS_AT_A_TIME * len(pretraining.LABELS_OF_WRITER)
    steps_of_chunk = examples // batch
    started, saved = time.monotonic() - float(seconds), time.monotonic()
    with progress.bar(total=settings.steps, unit='step', desc='pretraining') as bar:
        while (done := int(training.optimizer.iterations)) < settings.steps:
            bar.update(done - bar.n)
            chunk, first = divmod(done, steps_of_chunk)
            x, y = pretraining.writers_examples(
                settings.seed, chunk * WRITERS_AT_A_TIME, WRITERS_AT_A_TIME
            )
            last = min(steps_of_chunk, first + settings.steps - done)
            for start in range(first * batch, last * batch, batch):
                rows = slice(start, start + batch)
                loss, accuracy = training.step(x[rows], y[rows])
                bar.update()
            bar.set_postfix(loss=f'{loss:.3f}', accuracy=f'{accuracy:.3f}')
            if last < steps_of_chunk or time.monotonic() - saved > CHECKPOINT_SECONDS:
                saved = time.monotonic()
                seconds.assign(saved - started)
                manager.save()
    return training, float(seconds)


def held_out_accuracies(training: pretraining.Pretraining) -> dict[str, float]:
    """Returns accuracies on writers of another seed, by what they are of."""
    x, y = pretraining.writers_examples(training.settings.seed + 1, 0, HELD_OUT_WRITERS)
    found = {}
    for ink, invert in (('white on dark', False), ('dark on white', True)):
        logits = np.concatenate(
            [
                training.predict(x[i : i + 256], invert=invert).numpy()
                for i in range(0, len(x), 256)
            ]
        )
        digits = y < 10
        found[f'62 characters, ink {ink}'] = np.mean(logits.argmax(1) == y)
        found[f'digits among digits, ink {ink}'] = np.mean(
            logits[digits, :10].argmax(1) == y[digits]
        )
    return found


def probe_accuracies(
    path: pathlib.Path, data: str, settings: pretraining.Settings
) -> dict[str, float]:
    """Returns the linear probe's accuracies for the SavedModel and fresh weights."""
    pixels, labels, unseen = linear_probe.load_data(data)
    found = {}
    for backbone, name in ((path, 'this backbone'), ('random', 'fresh weights')):
        network = linear_probe.load_network(str(backbone), settings.network)
        for ink in ('white on dark', 'dark on white'):
            features = linear_probe.extract(
                network,
                pixels,
                settings.image_size,
                dark_on_white=ink == 'dark on white',
            )
            found[f'{name}, ink {ink}'] = linear_probe.probe(
                features, labels, unseen, linear_probe.STRENGTH
            )
    return found


def _table(head: str, figures: dict[str, float]) -> str:
    rows = [f'| {name} | {value:.2%} |' for name, value in figures.items()]
    return '\n'.join([f'| {head} | accuracy |', '| --- | --- |', *rows])


def model_card(
    settings: pretraining.Settings,
    features: int,
    seconds: float,
    held_out: dict[str, float],
    probed: dict[str, float],
) -> str:
    """Returns the text of MODEL_CARD.md.

    Args:
      settings: What it was trained with.
      features: How many the network gives.
      seconds: How long that took.
      held_out: Accuracies on synthetic writers of another seed.
      probed: The linear probe's accuracies on real handwriting, or nothing.
    """
    pictures = settings.steps * settings.batch_size
    writers = -(-pictures // len(pretraining.LABELS_OF_WRITER))
    cycles = ' and '.join(f'{steps:,}' for steps in settings.cycle_steps)
    flag_values = ' \\\n        '.join(
        f'--{field.name}={getattr(settings, field.name)}'
        for field in dataclasses.fields(settings)
    )
    parts = [
        f'# Model card: {settings.network} of handwritten characters',
        f'{settings.network} as a feature extractor: float images [n, h, w, 3] in'
        f' [0, 1], of any size that it can take, to features [n, {features}]. A'
        " SavedModel in TF-Hub's feature-vector form, trained at"
        f' {settings.image_size} x {settings.image_size} pixels.',
        '## Training',
        f'Trained from fresh weights, by this project alone, on {pictures:,} pictures'
        ' of handwritten characters (digits, upper and lower case letters), each drawn'
        ' once by `tff_transfer.data.synthetic_writers`: the first'
        f' {writers:,} synthetic writers of seed {settings.seed}. No photograph, scan'
        ' or pretrained weight was used. Pictures were moved, zoomed, stretched and'
        ' faded at random, half of them with dark ink on white.',
        f'Adam, batches of {settings.batch_size}, label smoothing'
        f' {settings.label_smoothing:g}; the learning rate went from'
        f' {settings.learning_rate:g} to 0 along a cosine in {cycles} steps, each cycle'
        f' starting at {pretraining.WarmRestarts.DECAY:g} of the one before. It took'
        f' {seconds / 60:.0f} minutes on {os.cpu_count()} CPU cores shared with other'
        ' work. To make it again:',
        f'    python -m experiments.pretrain_backbone \\\n        {flag_values}',
        '## Accuracies',
        f'On {HELD_OUT_WRITERS} synthetic writers of another seed. Without a line of'
        ' writing around them, O and 0, l and I, or C and c cannot always be told'
        ' apart.',
        _table('synthetic characters', held_out),
    ]
    if probed:
        parts += [
            'A linear probe on real handwriting never seen in pretraining (MNIST digits'
            " with QMNIST's writers): multinomial logistic regression,"
            f' C = {linear_probe.STRENGTH}, on standardised features at'
            f" {settings.image_size} pixels, trained on the seen writers' digits and"
            f' scored on those of {linear_probe.UNSEEN_WRITERS} unseen ones'
            ' (`python -m experiments.linear_probe`).',
            _table('features', probed),
        ]
    parts += [
        '## Limits',
        'It knows strokes on a plain ground. For photographs take a backbone that was'
        ' trained on them.',
    ]
    filled = [
        part if part[0] in '#| ' else textwrap.fill(part, 88, break_on_hyphens=False)
        for part in parts
    ]
    return '\n\n'.join(filled) + '\n'


def main():
    """Trains, exports, measures and writes the card."""
    settings = pretraining.Settings(
        **{
            field.name: getattr(FLAGS, field.name)
            for field in dataclasses.fields(pretraining.Settings)
        }
    )
    if settings.steps < 1:
        raise UserError('--examples: fewer than one batch')
    if settings.image_size < 32:
        raise UserError('--image_size: at least 32 pixels')
    if FLAGS.probe_data:
        linear_probe.load_data(FLAGS.probe_data)
    output = pathlib.Path(FLAGS.output)
    # A run of fewer cycles is the beginning of one of more, so they share a folder.
    same = dataclasses.astuple(dataclasses.replace(settings, cycles=1))
    name = '_'.join(map(str, same))
    training, seconds = train(settings, output / 'checkpoints' / name)
    model = output / f'{settings.network}_characters'
    pretraining.export(training.network, settings.network, model)
    held_out = held_out_accuracies(training)
    probed = {}
    if FLAGS.probe_data:
        probed = probe_accuracies(model, FLAGS.probe_data, settings)
    features = training.network.output_shape[-1]
    card = model_card(settings, features, seconds, held_out, probed)
    files.write_text(output / 'MODEL_CARD.md', card)
    for what, accuracy in (held_out | probed).items():
        print(f'{what}: {accuracy:.2%}')
    print(f'written: {model}')


if __name__ == '__main__':
    FLAGS = flags.FLAGS
    _defaults = pretraining.Settings()
    flags.DEFINE_integer('seed', _defaults.seed, 'Of all draws.', lower_bound=0)
    flags.DEFINE_integer(
        'examples', _defaults.examples, 'Pictures that are drawn for the first cycle.'
    )
    flags.DEFINE_integer(
        'cycles',
        _defaults.cycles,
        'Cycles of the learning rate, each twice as long as the one before.',
        lower_bound=1,
    )
    flags.DEFINE_integer('image_size', _defaults.image_size, 'Pixels of a side.')
    flags.DEFINE_integer(
        'batch_size', _defaults.batch_size, 'Pictures of a step.', lower_bound=2
    )
    flags.DEFINE_float('learning_rate', _defaults.learning_rate, 'The largest.')
    flags.DEFINE_float(
        'label_smoothing', _defaults.label_smoothing, 'In [0, 1).', 0.0, 1.0
    )
    flags.DEFINE_enum(
        'network',
        _defaults.network,
        pretraining.networks(),
        'The network by name.',
    )
    flags.DEFINE_string('output', 'runs/backbone', 'The folder for what is made.')
    flags.DEFINE_string(
        'probe_data', None, 'An npz of real handwriting by writer, to measure with.'
    )
    command_line.run(main)

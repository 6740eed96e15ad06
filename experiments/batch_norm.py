"""What becomes of BatchNorm in federated fine-tuning: TFF issue 910, and each policy.

Fine-tunes all of a MobileNetV2 on the same clients in every way, and prints a table:

  python -m experiments.batch_norm --dataset=by_client --data_path=mine.npz \\
      --backbone=MobileNetV2_035 --backbone_weights=mobilenet_v2_035_feature_vector \\
      --shards_per_client=2 --output=batch_norm.png

Each is trained with the client learning rate that suits it (`learning_rates.py`), or
all with that of `--client_learning_rate`; the server should take the mean of the
clients' weights: `--server_optimizer=sgd --server_learning_rate=1`.

`stock` is the construction of TFF's tutorials: `tff.learning.models.from_keras_model`
around backbone and head. It trains with the statistics of each batch and evaluates with
those that the backbone came with.
"""

import collections
import dataclasses

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from absl import flags

from experiments import command_line, learning_rates
from tff_transfer import backbones, files, options, progress, runtime
from tff_transfer.data import partition
from tff_transfer.data.cohorts import choose_clients, training_cohort
from tff_transfer.data.federated import FederatedData, split_clients
from tff_transfer.records import plots, report
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import BATCH_NORM
from tff_transfer.training.sources import load_backbone, load_data

STOCK, STOCK_BATCHES = 'stock', 'stock, by batches'


def dealt_again(data: FederatedData, shards_per_client: int) -> FederatedData:
    """Returns the same examples at as many clients of few labels each."""
    return partition.shards(
        data.x,
        data.y,
        len(data),
        shards_per_client=shards_per_client,
        name=f'{data.name}, {shards_per_client} shards a client',
        is_test=~data.is_train,
    )


def build_keras(
    backbone: backbones.Backbone, weights: list[np.ndarray], classes: int
) -> tf.keras.Model:
    """Builds a classifier as TFF's tutorials do: the network itself under a head.

    Args:
      backbone: A Keras network; the classifier gets a copy.
      weights: The network's weights, which cannot be read in the graph of a model_fn.
      classes: Classes.

    Returns:
      A network from raw grey images, uint8 [batch, height, width, 1], to logits.
    """
    network = tf.keras.models.clone_model(backbone.keras_model)
    images = tf.keras.Input((None, None, 1), dtype=tf.uint8)
    features = network(backbone.preprocess(images))
    logits = tf.keras.layers.Dense(classes, kernel_initializer='zeros')(features)
    network.set_weights(weights)
    return tf.keras.Model(images, logits)


def train_stock(
    config: Config, data: FederatedData, backbone: backbones.Backbone
) -> dict[str, list[tuple[int, float]]]:
    """Trains the construction of TFF's tutorials, on the current runtime.

    Args:
      config: How; the backbone's options are not read.
      data: The clients.
      backbone: A Keras network.

    Returns:
      By round, accuracy on the unseen clients: as Keras evaluates the result, and, for
      comparison, with the statistics of batches of 256 as in training.
    """
    training = config.training
    seen, unseen = split_clients(
        len(data), config.data.unseen_fraction, config.data.split_seed
    )
    shape = [None, *data.x.shape[1:]]
    weights = backbone.keras_model.get_weights()

    def model_fn():
        return tff.learning.models.from_keras_model(
            build_keras(backbone, weights, data.num_classes),
            loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            input_spec=collections.OrderedDict(
                x=tf.TensorSpec(shape, tf.uint8), y=tf.TensorSpec([None], tf.int32)
            ),
        )

    sgd = tff.learning.optimizers.build_sgdm
    process = tff.learning.algorithms.build_weighted_fed_avg(
        model_fn,
        sgd(training.client_learning_rate),
        sgd(training.server_learning_rate),
    )
    evaluated = build_keras(backbone, weights, data.num_classes)
    holds = np.isin(data.client_of_row, unseen)
    x, y = data.x[holds], data.y[holds]
    order = np.random.default_rng(0).permutation(len(y))
    batches = [order[start : start + 256] for start in range(0, len(y), 256)]
    step = tf.function(lambda images, training: evaluated(images, training=training))

    def accuracy(training):
        # Evaluating must not move the statistics that are under test.
        kept = evaluated.get_weights()
        logits = np.concatenate([step(tf.constant(x[b]), training) for b in batches])
        evaluated.set_weights(kept)
        return float(np.mean(logits.argmax(axis=1) == y[order]))

    state, points = process.initialize(), {STOCK: [], STOCK_BATCHES: []}
    for number in progress.bar(range(1, training.rounds + 1), desc=STOCK, unit='round'):
        chosen = choose_clients(
            len(seen),
            training.clients_per_round,
            seed=training.seed,
            round_number=number,
        )
        cohort = training_cohort(
            data,
            seen[chosen],
            batch_size=training.batch_size,
            epochs=training.client_epochs,
            seed=training.seed,
            round_number=number,
        )
        state = process.next(state, cohort).state
        if number % training.evaluate_every == 0 or number == training.rounds:
            process.get_model_weights(state).assign_weights_to(evaluated)
            points[STOCK].append((number, accuracy(training=False)))
            points[STOCK_BATCHES].append((number, accuracy(training=True)))
    return points


def at_rate(config: Config, policy: str) -> Config:
    """Returns a configuration with the client learning rate that suits a policy.

    TFF's construction normalises as `aggregate` does in training.
    """
    rate = learning_rates.rate('all', policy)
    training = dataclasses.replace(config.training, client_learning_rate=rate)
    return dataclasses.replace(config, training=training)


def train(config: Config, data: FederatedData, policy: str) -> list[tuple[int, float]]:
    """Trains with one policy.

    Args:
      config: How; all weights are trained.
      data: The clients.
      policy: One of `--batch_norm`.

    Returns:
      By round, accuracy on the unseen clients.
    """
    model = dataclasses.replace(config.model, finetune='all', batch_norm=policy)
    split = {n: getattr(config.data, n) for n in ('unseen_fraction', 'split_seed')}
    config = dataclasses.replace(config, data=DataConfig(**split), model=model)
    result = loop.train(config, data=data)
    column = [(row['round'], row['unseen/accuracy']) for row in result.rows]
    return [(number, a) for number, a in column if number and a is not None]


def main() -> None:
    """Prints a table and writes the picture."""
    config = options.from_flags(Config)
    config.check()
    data = load_data(config)
    if flags.FLAGS.shards_per_client:
        data = dealt_again(data, flags.FLAGS.shards_per_client)
    given = flags.FLAGS['client_learning_rate'].present
    chosen = {p: config if given else at_rate(config, p) for p in BATCH_NORM}
    with runtime.use_compiled():
        curves = train_stock(chosen['aggregate'], data, load_backbone(config))
    for policy in BATCH_NORM:
        curves[policy] = train(chosen[policy], data, policy)
        print(f'{policy}: {curves[policy][-1][1]:.1%}', flush=True)
    rows = [['BatchNorm', 'unseen accuracy', 'highest']]
    for name, points in curves.items():
        accuracies = [accuracy for _, accuracy in points]
        rows.append([name, f'{accuracies[-1]:.1%}', f'{max(accuracies):.1%}'])
    print(report.text_table(rows))
    if output := flags.FLAGS.output:
        with files.replacing(output) as new:
            figure = plots.compared(curves, 'accuracy on unseen clients')
            figure.savefig(new, dpi=110)
        print(f'picture: {output}')


if __name__ == '__main__':
    options.define_flags(Config)
    flags.adopt_module_key_flags(options)
    flags.DEFINE_string('output', None, 'The picture to write, png or svg.')
    flags.DEFINE_integer(
        'shards_per_client',
        None,
        'Deal the examples out again, sorted by label, so many shards a client: most'
        ' clients then have so many labels.',
        lower_bound=1,
    )
    command_line.run(main)

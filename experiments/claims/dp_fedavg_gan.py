"""Images of a federated GAN tell of a bug in clients' preprocessing.

Augenstein et al. 2020, "Generative models for effective ML on private, decentralized
datasets", section 6: an update inverts the pixels of half of the users, whose images
nobody may see. One GAN is trained on the users for whom a classifier does badly, one on
those for whom it does well, and their samples are compared. Here on the digits of real
writers, with the clipping and noise of the authors' code, and without.

  python -m experiments.claims.dp_fedavg_gan --data_path=handwriting_by_writer.npz \\
      --output=dp_fedavg_gan.png
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from absl import flags
from matplotlib.figure import Figure

import tff_transfer as tt
from experiments.claims import study
from tff_transfer import randomness
from tff_transfer.algorithms.fed_gan import FedGAN
from tff_transfer.data import by_client
from tff_transfer.data.federated import FederatedData
from tff_transfer.privacy.central import Central
from tff_transfer.privacy.nothing import NoPrivacy

# The share of users whose update inverts their pixels.
SHARES = (0.0, 0.5)
# The share of users who are those of low accuracy, and of high.
TAIL = 0.25
# As in the authors' code: steps of both networks, clients of a round, clip and noise.
STEPS, CLIENTS, CLIP, NOISE = 6, 10, 0.1, 0.01
BATCH, RATE, GENERATOR_RATE = 20, 0.05, 2e-3
PRIVACY = {
    'none': NoPrivacy(),
    'clip and noise': Central(noise_multiplier=NOISE, clip=CLIP, sampling='fixed'),
}
# Writers on whom the classifier is trained, before the update.
OF_CLASSIFIER = 100
# Pixels of the frame that is told apart, and generated images.
FRAME, SAMPLES, SHOWN = 3, 500, 12


class Users(NamedTuple):
    """Some users of the application.

    Attributes:
      data: Their examples as the application has them.
      inverted: Whose pixels it inverts, bool [users].
    """

    data: FederatedData
    inverted: np.ndarray


def with_bug(data: FederatedData, share: float, seed: int) -> Users:
    """Inverts the pixels of a share of users, who are drawn."""
    draw = randomness.generator(seed, 'claim of a bug')
    inverted = draw.permutation(len(data)) < round(share * len(data))
    rows = inverted[data.client_of_row]
    x = data.x.copy()
    x[rows] = 255 - x[rows]
    return Users(data.with_x(x), inverted)


def classifier(data: FederatedData, seed: int) -> tf.keras.Model:
    """Trains the EMNIST network on some writers' digits, two epochs of Adam."""
    model = tt.models.cnn(data.x.shape[1:], 10, seed=seed, dtype=data.x.dtype)
    tf.keras.utils.set_random_seed(seed)
    model.network.compile(
        'adam', tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.network.fit(data.x, data.y, batch_size=50, epochs=2, verbose=0)
    return model.network


def accuracies(network: tf.keras.Model, data: FederatedData) -> np.ndarray:
    """Returns each user's share of right answers, [users]."""
    logits = network.predict(data.x, batch_size=500, verbose=0)
    right = logits.argmax(1) == data.y
    return np.bincount(data.client_of_row, right) / (data.num_train + data.num_test)


def bright_frames(images: np.ndarray) -> float:
    """Returns the share of images whose outermost pixels are bright on average.

    Args:
      images: float [n, height, width, 1] in [0, 1].
    """
    inner = np.ones(images.shape[1:3], bool)
    inner[FRAME:-FRAME, FRAME:-FRAME] = False
    return float(np.mean(images[:, inner].mean(axis=(1, 2)) > 0.5))


def generated(data: FederatedData, privacy, seed: int, rounds: int):
    """Trains a GAN on some users; returns images of it, and epsilon.

    The server trains the generator; clients send their discriminators alone.
    """
    steps = {'generator_steps': STEPS, 'generator_learning_rate': GENERATOR_RATE}
    config = tt.Config(
        tt.DataConfig(unseen_fraction=0.0, split_seed=seed),
        tt.ModelConfig('gan', conditional=False),
        tt.TrainingConfig(
            rounds=rounds,
            clients_per_round=min(CLIENTS, len(data)),
            batch_size=BATCH,
            max_examples=STEPS * BATCH,
            weighting='uniform',
            client_learning_rate=RATE,
            server_optimizer='sgd',
            server_learning_rate=1.0,
            evaluate_every=rounds,
            seed=seed + 1,  # 0 would draw one where there is privacy.
        ),
        algorithm=FedGAN('server', **steps),
        privacy=privacy,
    )
    result = tt.train(config, data=data)
    weights = list(map(tf.constant, result.weights))
    labels = tf.zeros([SAMPLES], tf.int32)
    images = result.setup.model.generate(weights, labels, tf.constant([seed, 0]))
    return images.numpy(), result.rows[-1].get('privacy/epsilon') or np.inf


@dataclasses.dataclass
class Cell:
    """What is told of some users, of each seed.

    Attributes:
      accuracy: The mean of the classifier's on each of them.
      inverted: The share of them whose pixels are inverted.
      bright: The share of generated images with a bright frame.
      epsilon: Of the clients who trained; infinite without noise.
    """

    accuracy: list[float] = dataclasses.field(default_factory=list)
    inverted: list[float] = dataclasses.field(default_factory=list)
    bright: list[float] = dataclasses.field(default_factory=list)
    epsilon: list[float] = dataclasses.field(default_factory=list)


def measure(data: FederatedData, seeds: list[int], rounds: int) -> study.Found:
    """Returns how many generated images are inverted, by users and privacy."""
    cells, pictures = {}, {}
    for seed in seeds:
        order = randomness.generator(seed, 'claim of users').permutation(len(data))
        network = classifier(data.select(order[:OF_CLASSIFIER]), seed)
        for share in SHARES:
            users = with_bug(data.select(order[OF_CLASSIFIER:]), share, seed)
            right = accuracies(network, users.data)
            worst_first, count = np.argsort(right), round(TAIL * len(right))
            tails = {'lowest': worst_first[:count], 'highest': worst_first[-count:]}
            for name, chosen in tails.items():
                some = users.data.select(chosen)
                for kind, privacy in PRIVACY.items():
                    key = share, name, kind
                    images, epsilon = generated(some, privacy, seed, rounds)
                    cell = cells.setdefault(key, Cell())
                    cell.accuracy.append(np.mean(right[chosen]))
                    cell.inverted.append(np.mean(users.inverted[chosen]))
                    cell.bright.append(bright_frames(images))
                    cell.epsilon.append(epsilon)
                    pictures.setdefault(key, images[:SHOWN])
                    print(*key, cell, flush=True)
    head = ['inverted', 'users', 'privacy', 'epsilon', 'accuracy', 'of them inverted']
    table = [[*head, 'generated images with a bright frame']]
    for (share, name, kind), cell in cells.items():
        told = map(study.spread, (cell.accuracy, cell.inverted, cell.bright))
        of = f'{share:.0%}', f'{name} {TAIL:.0%}', kind, f'{max(cell.epsilon):.3g}'
        table.append([*of, *told])
    return study.Found(table, _figure(pictures))


def _figure(pictures: dict) -> Figure:
    """Draws generated images, a row of them for each kind of users and privacy."""
    figure = Figure((SHOWN * 0.6 + 2, len(pictures) * 0.65), layout='constrained')
    rows = figure.subplots(len(pictures), 1, squeeze=False)[:, 0]
    for axes, ((share, name, kind), images) in zip(rows, pictures.items(), strict=True):
        strip = np.concatenate([*images[..., 0]], axis=1)
        axes.imshow(strip, cmap='gray', vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(
            f'{share:.0%} inverted\n{name}, {kind}',
            fontsize='small',
            rotation=0,
            ha='right',
            va='center',
        )
    return figure


if __name__ == '__main__':
    tf.get_logger().setLevel('ERROR')
    flags.DEFINE_string('data_path', None, 'Digits by client.', required=True)
    study.run(
        lambda *sizes: measure(by_client.load(flags.FLAGS.data_path), *sizes),
        rounds=60,
        seeds=1,
    )

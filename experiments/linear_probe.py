"""How good a backbone's features are: a linear probe on handwriting by writer.

Multinomial logistic regression on standardised features, trained on the digits of
the seen writers, scored on those of 40 writers never seen. For example:

  python -m experiments.linear_probe --data=../shared/data/handwriting_by_writer.npz \
      --backbone=embedded
"""

import pathlib
from collections.abc import Callable

import numpy as np
import sklearn.linear_model
import sklearn.preprocessing
import tensorflow as tf
from absl import flags

from experiments import command_line
from tff_transfer import progress
from tff_transfer.backbones import embedded, pretraining
from tff_transfer.errors import UserError

UNSEEN_WRITERS = 40
STRENGTH = 0.003  # of the regression, scikit-learn's C


def load_network(
    backbone: str, architecture: str = pretraining.NETWORK
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function of float images [n, h, w, 3] in [0, 1].

    Args:
      backbone: A SavedModel in TF-Hub's feature-vector form, `embedded`, or
        `random` for fresh weights.
      architecture: The network by name that has those.
    """
    if backbone == 'random':
        tf.keras.utils.set_random_seed(0)
        network = pretraining.build_network(architecture)
        return lambda x: network(
            pretraining.to_network(architecture, x), training=False
        )
    path = embedded.PATH if backbone == 'embedded' else backbone
    if not tf.saved_model.contains_saved_model(str(path)):
        raise UserError(f'--backbone: {path} is no SavedModel; name its folder')
    loaded = tf.saved_model.load(str(path))
    return lambda x: loaded(x, training=False)


def extract(
    network: Callable[[tf.Tensor], tf.Tensor],
    images: np.ndarray,
    size: int,
    *,
    dark_on_white: bool,
    batch: int = 256,
) -> np.ndarray:
    """Returns the features of images, float32 [n, features].

    Args:
      network: A function of float images [n, size, size, 3] in [0, 1].
      images: uint8 [n, h, w], ink 255 on 0.
      size: Pixels of a side that the network sees.
      dark_on_white: Whether it sees dark ink on white.
      batch: Images at a time.
    """

    @tf.function(reduce_retracing=True)
    def features(x):
        x = pretraining.to_inputs(x, size)
        return network(1 - x if dark_on_white else x)

    starts = progress.bar(range(0, len(images), batch), desc='features')
    return np.concatenate(
        [features(images[i : i + batch, ..., None]).numpy() for i in starts]
    )


def unseen_rows(writers: np.ndarray) -> np.ndarray:
    """Returns which rows belong to the unseen writers, bool [n]."""
    order = np.random.default_rng(0).permutation(np.unique(writers))
    return np.isin(writers, order[:UNSEEN_WRITERS])


def probe(
    features: np.ndarray, labels: np.ndarray, unseen: np.ndarray, strength: float
) -> float:
    """Returns the accuracy on unseen rows of a regression fitted to the others.

    Args:
      features: Float [n, d].
      labels: Integers [n].
      unseen: Which rows are scored, bool [n].
      strength: scikit-learn's `C`, the inverse of the L2 penalty.
    """
    scaler = sklearn.preprocessing.StandardScaler().fit(features[~unseen])
    features = scaler.transform(features)
    regression = sklearn.linear_model.LogisticRegression(C=strength, max_iter=500)
    regression.fit(features[~unseen], labels[~unseen])
    return float(regression.score(features[unseen], labels[unseen]))


def load_data(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns pixels uint8 [n, h, w], labels [n] and unseen rows, bool [n]."""
    if not pathlib.Path(path).is_file():
        raise UserError(
            f'there is no file {path}; name an npz of pixels, label, writer'
        )
    with np.load(path) as data:
        return data['pixels'], data['label'], unseen_rows(data['writer'])


def main():
    """Prints one line for each polarity of the ink."""
    pixels, labels, unseen = load_data(FLAGS.data)
    network = load_network(FLAGS.backbone)
    for dark_on_white in (True, False):
        features = extract(
            network, pixels, FLAGS.image_size, dark_on_white=dark_on_white
        )
        accuracy = probe(features, labels, unseen, FLAGS.strength)
        ink = 'dark on white' if dark_on_white else 'white on dark'
        print(
            f'{FLAGS.backbone}, {FLAGS.image_size} px, ink {ink}: {accuracy:.2%} of'
            f' {unseen.sum()} digits of {UNSEEN_WRITERS} unseen writers, from'
            f' {(~unseen).sum()} digits of seen ones',
            flush=True,
        )


if __name__ == '__main__':
    FLAGS = flags.FLAGS
    flags.DEFINE_string('data', None, 'An npz of pixels, label, writer.', required=True)
    flags.DEFINE_string(
        'backbone', 'embedded', 'The folder of a SavedModel, `embedded`, or `random`.'
    )
    flags.DEFINE_integer(
        'image_size', embedded.IMAGE_SIZE, 'Pixels of a side that the backbone sees.'
    )
    flags.DEFINE_float('strength', STRENGTH, "scikit-learn's C.")
    command_line.run(main)

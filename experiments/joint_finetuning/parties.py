"""Parties with unlike images: CIFAR-10, MNIST and Fashion-MNIST, as features."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import backbones, features, randomness
from tff_transfer.data import by_client, federated, npz
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError

# Classes of each source.
CLASSES = 10
# The most images of a source; seeds draw of these what they train on.
TRAIN, TEST = 6000, 1000
# The share of the writers, where there are any, whose digits are test examples.
_TEST_WRITERS = 0.2


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a party's images come from.

    Attributes:
      name: What it is called.
      load: Loads it by Keras, where there is a network.
    """

    name: str
    load: Callable

    @property
    def flag(self) -> str:
        """The flag of its path."""
        return self.name.lower().replace('-', '_')


_datasets = tf.keras.datasets
SOURCES = (
    Source('CIFAR-10', _datasets.cifar10.load_data),
    Source('MNIST', _datasets.mnist.load_data),
    Source('Fashion-MNIST', _datasets.fashion_mnist.load_data),
)


def load(source: Source, path: str | None) -> FederatedData:
    """Returns a source's images as those of one client, `TRAIN` and `TEST` at most.

    Args:
      source: What is loaded.
      path: An npz of images and labels for each part (`x_train`, `y_train`, `x_test`,
        `y_test`), or of images, labels and writers, of whom some are the test part; or
        None, then Keras's loader gives it.

    Raises:
      UserError: The file is unfit, or there is neither path nor network.
    """
    if path is None:
        try:
            (x, y), (x_test, y_test) = source.load()
        except Exception as error:  # Keras raises Exception itself.
            raise UserError(
                f'{source.name} cannot be downloaded ({error}); give the path of an'
                f' npz of it as --{source.flag}'
            ) from error
        x, y = np.concatenate([x, x_test]), np.ravel(np.concatenate([y, y_test]))
        is_test = np.repeat([False, True], [len(x) - len(x_test), len(x_test)])
    else:
        if not pathlib.Path(path).is_file():
            raise UserError(f'--{source.flag}: there is no file {path}')
        x, y, is_test = npz.read_central(path)
        if not is_test.any():
            x, y, is_test = _by_writer(path)
    draw = randomness.generator(0, 'images of a party')
    rows = np.concatenate(
        [
            draw.permutation(np.flatnonzero(is_test == test))[:most]
            for test, most in ((False, TRAIN), (True, TEST))
        ]
    )
    found = federated.from_rows(
        source.name,
        x[rows],
        y[rows],
        np.repeat(source.name, len(rows)),
        is_test=is_test[rows],
    )
    if found.num_classes != CLASSES:
        raise UserError(
            f'--{source.flag}: {found.num_classes} classes, but there must be {CLASSES}'
        )
    return found


def _by_writer(path: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns images, labels and which rows are of the writers that are the test."""
    data = by_client.load(path)
    writers = randomness.generator(0, 'test writers').permutation(len(data))
    chosen = writers[: round(_TEST_WRITERS * len(data))]
    return data.x, data.y, np.isin(data.client_of_row, chosen)


def as_features(
    backbone: backbones.Backbone, sources: Sequence[FederatedData]
) -> list[FederatedData]:
    """Returns the sources with features as `x`, float32 [n, size], from the cache."""
    return [data.with_x(features.extract(backbone, data)) for data in sources]


def drawn(
    sources: Sequence[FederatedData], examples: int, seed: int
) -> list[FederatedData]:
    """Returns parties that each have so many training examples of one source.

    Args:
      sources: What `as_features` gives.
      examples: Training examples of a party, if its source has as many.
      seed: The seed of the draw; test examples are the same for all.

    Returns:
      One client each, with labels from 0, and features standardised by the moments of
      all their training examples together: whoever trains sees the same inputs.
    """
    found = []
    for number, data in enumerate(sources):
        draw = randomness.generator(seed, 'examples of a party', number)
        train = draw.permutation(np.r_[data.train_rows(0)])[:examples]
        rows = np.concatenate([train, np.r_[data.test_rows(0)]])
        found.append(_party(data.name, data.x[rows], data.y[rows], len(train), CLASSES))
    standardise = features.standardisation(together(found), range(len(found)))
    return [party.with_x(standardise(party.x)) for party in found]


def apart(parties: Sequence[FederatedData]) -> list[FederatedData]:
    """Returns the parties with labels of their own in a range that all share."""
    count = len(parties) * CLASSES
    return [
        dataclasses.replace(
            party, y=(party.y + number * CLASSES).astype(np.int32), num_classes=count
        )
        for number, party in enumerate(parties)
    ]


def dealt(parties: Sequence[FederatedData], seed: int) -> list[FederatedData]:
    """Returns as many parties, to which all examples are dealt at random.

    Args:
      parties: What `apart` gives.
      seed: The seed of how training examples are dealt; test examples are dealt alike
        for all.
    """
    whole = together(parties)
    hands = []
    for is_train, of_seed in ((True, seed), (False, 0)):
        draw = randomness.generator(of_seed, 'dealt', int(is_train))
        rows = draw.permutation(np.flatnonzero(whole.is_train == is_train))
        hands.append(np.array_split(rows, len(parties)))
    return [
        _party(
            f'third {number}',
            *(part[np.concatenate([train, test])] for part in (whole.x, whole.y)),
            len(train),
            whole.num_classes,
        )
        for number, (train, test) in enumerate(zip(*hands, strict=True), 1)
    ]


def together(parties: Sequence[FederatedData]) -> FederatedData:
    """Returns the population of some parties."""
    return FederatedData(
        ', '.join(party.name for party in parties),
        np.concatenate([party.x for party in parties]),
        np.concatenate([party.y for party in parties]),
        tuple(party.name for party in parties),
        np.concatenate([party.num_train for party in parties]),
        np.concatenate([party.num_test for party in parties]),
        parties[0].num_classes,
    )


def _party(name, x, y, num_train: int, classes: int) -> FederatedData:
    counts = np.array([num_train]), np.array([len(y) - num_train])
    return FederatedData(name, x, y, (name,), *counts, classes)

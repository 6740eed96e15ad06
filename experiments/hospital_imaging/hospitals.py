"""The hospitals of the study: drawn phantoms, dealt chest X-rays, or one's own."""

import pathlib
from collections.abc import Sequence

import numpy as np

from tff_transfer import randomness
from tff_transfer.backbones import Backbone
from tff_transfer.data import by_client, federated, lung_phantoms, npz, validation
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError

# Where images come from, and what a reader of the report is to know of them.
SOURCES = {
    'phantoms': 'Drawn slices of a chest, with a nodule or without, of no patient.'
    ' Each hospital has another share of nodules, and brightness and contrast of a'
    ' scanner that is made up. Each seed draws them anew.',
    'chest_xrays': 'Chest X-rays of a file without hospitals, dealt out by this study:'
    ' each hospital has another share of positive images, and brightness and contrast'
    ' of a scanner that is made up. Each seed deals them anew; test images are those'
    ' of the file.',
    'by_client': 'The hospitals are those of the file or folder, as they are.',
}

# Images of each hospital, the share of them that are positive, and how many of them
# are test examples, of the same share.
SIZES = (1000, 800, 600)
POSITIVE_SHARES = (0.75, 0.625, 0.5)
NUM_TEST = 200

# What a hospital's scanner does to grey values in [0, 1], by its number: contrast about
# the middle, and brightness. They are made up: no real scanners were compared.
SCANNERS = ((1.0, 0.0), (0.7, 0.1), (1.3, -0.05))

# The share of a hospital's training examples by which epochs and rates are chosen, and
# thresholds.
VALIDATION = 0.2


def load(source: str, path: str | None, backbone: Backbone, seed: int) -> FederatedData:
    """Returns the hospitals as clients, with images of two classes.

    Args:
      source: A key of `SOURCES`.
      path: The file or folder, where the source is one.
      backbone: What image files of mixed size are brought to the size of.
      seed: What is drawn, dealt or split is a function of it.

    Raises:
      UserError: The source cannot be read, or has not what the study needs.
    """
    if source == 'phantoms':
        drawn = lung_phantoms.generate(SIZES, POSITIVE_SHARES, NUM_TEST, seed=seed)
        return scanned(drawn)
    if source == 'chest_xrays':
        return scanned(chest_xrays(path, seed))
    size = backbone.image_size
    data = by_client.load(path, image_size=size, test_fraction=0.25, split_seed=seed)
    check(data, seed)
    return data


def check_source(source: str, path: str | None) -> None:
    """Checks, before anything is loaded, that source and path fit.

    Raises:
      UserError: They do not.
    """
    if (path is None) != (source == 'phantoms'):
        what = 'is drawn, so leave it out' if path else 'is a file; name it'
        raise UserError(f'--data_path: --dataset={source} {what}')


def chest_xrays(path: str, seed: int) -> FederatedData:
    """Deals chest X-rays out to hospitals, unevenly in labels.

    Of an image that stands more than once only the first is kept: in MedMNIST's
    PneumoniaMNIST eight stand in both train and val, 18 twice in train and three twice
    in test.

    Args:
      path: An npz file of MedMNIST's layout, `{train,val,test}_{images,labels}`, of
        labels 0 and 1; test images stay test images.
      seed: The seed of the draw.

    Raises:
      UserError: The file is of another layout, or has too few images of a kind.
    """
    x, y, is_test = npz.read_central(path)
    flat = np.ascontiguousarray(x).reshape(len(x), -1)
    _, first = np.unique(flat, axis=0, return_index=True)
    draw = randomness.generator(seed, 'chest X-rays of hospitals')
    rows, holders = [], []
    for test in (False, True):
        for label in (0, 1):
            pool = first[(is_test[first] == test) & (y[first] == label)]
            counts = _counts(label, test=test)
            if len(pool) < sum(counts):
                part = 'test' if test else 'training'
                raise UserError(
                    f'{path}: {len(pool)} {part} images of label {label}, but the'
                    f' hospitals get {sum(counts)}; give a larger file'
                )
            rows.append(draw.permutation(np.sort(pool))[: sum(counts)])
            holders.append(np.repeat(np.arange(len(SIZES)), counts))
    rows, holders = np.concatenate(rows), np.concatenate(holders)
    return federated.from_rows(
        f'{pathlib.Path(path).name} dealt to {len(SIZES)} hospitals, seed {seed}',
        x[rows],
        y[rows],
        np.array([f'hospital {holder + 1}' for holder in holders]),
        is_test=is_test[rows],
        class_names=('normal', 'pneumonia'),
    )


def _counts(label: int, *, test: bool) -> list[int]:
    """Returns how many images of a label each hospital has in a part."""
    found = []
    for size, share in zip(SIZES, POSITIVE_SHARES, strict=True):
        count = NUM_TEST if test else size - NUM_TEST
        positive = round(share * count)
        found.append(positive if label else count - positive)
    return found


def scanned(data: FederatedData) -> FederatedData:
    """Returns hospitals' images, uint8, as their (artificial) scanners show them."""
    x = np.empty_like(data.x)
    grey = np.arange(256) / 255
    for client in range(len(data)):
        contrast, brightness = SCANNERS[client % len(SCANNERS)]
        shown = np.clip((grey - 0.5) * contrast + 0.5 + brightness, 0, 1)
        rows = slice(*data.row_splits[client : client + 2])
        x[rows] = np.rint(255 * shown).astype(np.uint8)[data.x[rows]]
    return data.with_x(x)


def held_out(data: FederatedData, seed: int) -> FederatedData:
    """Returns the training examples alone, of which a part is for choices."""
    clients = range(len(data))
    return validation.held_out(data, clients, fraction=VALIDATION, seed=seed)


def check(data: FederatedData, seed: int) -> None:
    """Checks that hospitals have what the study needs.

    Raises:
      UserError: They are not two or more, classes are not two, or a hospital has not
        two examples of each class to train on, to choose by and to be tested on.
    """
    if data.num_classes != 2 or len(data) < 2 or data.x.ndim != 4:
        raise UserError(
            f'{data.name}: {len(data)} hospitals with {data.num_classes} classes of'
            f' inputs {list(data.x.shape[1:])}; give images of two classes by two'
            ' hospitals or more'
        )
    held = held_out(data, seed)
    for client, name in enumerate(data.client_ids):
        parts = {
            'training': held.y[held.train_rows(client)],
            'validation': held.y[held.test_rows(client)],
            'test': data.y[data.test_rows(client)],
        }
        for part, labels in parts.items():
            if np.bincount(labels, minlength=2).min() < 2:
                raise UserError(
                    f'{data.name}: {name} has {_told(labels)} as {part} examples; give'
                    ' it two of each class at least'
                )


def _told(labels: Sequence[int]) -> str:
    negative, positive = np.bincount(labels, minlength=2)
    return f'{negative} negative and {positive} positive'

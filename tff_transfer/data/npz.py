"""Examples in NumPy's `.npz` files: images, labels and perhaps client ids."""

import os
import pathlib

import numpy as np

from tff_transfer.data import (
    checks,
    federated,
    inputs,
    npz_archive,
    npz_keys,
    npz_parts,
    parts,
)
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError


def read_by_client(
    path: str | os.PathLike[str],
    *,
    image_key: str | None = None,
    label_key: str | None = None,
    client_key: str | None = None,
    test_fraction: float = 0.1,
    split_seed: int = 0,
) -> FederatedData:
    """Reads images, labels and client ids; see `by_client.load`.

    The images are the one array of three or four dimensions (or, if there is none,
    of two); the others have one entry an image. Keys are told apart by the words in
    them (`writer_ids` is of clients), and by dtype where that is enough: of two
    arrays, text is the clients and integers are the labels. Two arrays that may be
    the same are refused.

    Args:
      path: The file.
      image_key: The key of the images, if it is not found out; without the part's
        name where the file has an array for each part.
      label_key: The key of the labels.
      client_key: The key of the client ids.
      test_fraction: The share of test examples, where the file has no split.
      split_seed: The seed of that draw.

    Returns:
      The data.

    Raises:
      UserError: The file is damaged, or it is not clear which array is which.
    """
    path = pathlib.Path(path)
    named = {'image': image_key, 'label': label_key, 'client': client_key}
    found, is_test = _read(path, named, ('label', 'client'))
    y, class_names = checks.index_labels(found['label'])
    return federated.from_rows(
        path.name,
        found['image'],
        y,
        found['client'],
        class_names=class_names,
        is_test=is_test,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )


def read_central(
    path: str | os.PathLike[str],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads examples that belong to no clients, for `partition`.

    The arrays are images and labels, found as `read_by_client` does, perhaps for
    each part of the data: `x_train`, `y_train`, `x_test`, `y_test`, or
    `train_images`, `val_labels` and so on. Validation examples become training
    examples.

    Args:
      path: The file.

    Returns:
      Images [n, ...] and labels [n] of all parts, and which rows are test examples,
      bool [n].

    Raises:
      UserError: The file is damaged, or it is not clear which array is which.
    """
    found, is_test = _read(pathlib.Path(path), {}, ('label',))
    x, y = found['image'], found['label']
    return x, y, np.zeros(len(x), bool) if is_test is None else is_test


def read_inputs(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads images or vectors alone, of a file that may have labels and clients too.

    Args:
      path: The file.

    Returns:
      What `inputs.check` makes of them, of all parts.

    Raises:
      UserError: The file is damaged, or it is not clear which array holds them.
    """
    found, _ = _read(pathlib.Path(path), {}, ())
    return inputs.check(str(path), found['image'])


def _read(
    path: pathlib.Path, named: dict[str, str | None], wanted: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Returns the array of each role, and which rows are test examples, if known."""
    arrays = npz_archive.read(path)
    arrays, is_test = npz_parts.join(path, arrays, named)
    keys = npz_keys.find(path, arrays, named, wanted)
    found = {
        role: arrays[key] if role == 'image' else npz_keys.flat(arrays[key])
        for role, key in keys.items()
    }
    if 'split' in keys:
        if is_test is not None:
            raise UserError(
                f'{path}: {keys["split"]} tells a split, and the arrays of parts do;'
                ' keep one'
            )
        is_test = _is_test(path, keys['split'], found['split'])
    return found, is_test


def _is_test(path: pathlib.Path, key: str, split: np.ndarray) -> np.ndarray:
    """Returns which rows are test examples, bool [n]."""
    if split.dtype.kind in 'US':
        return parts.is_test(f'{path}: the array {key}', checks.text(split))
    test = set(npz_keys.words_of(key)) & set(parts.IS_TEST) == {'test'}
    if not test or split.dtype.kind not in 'biuf' or not np.isin(split, (0, 1)).all():
        raise UserError(
            f'{path}: {key} {split.dtype} does not tell which rows are test examples;'
            ' give is_test, of bool, or split, of train and test, or rename it'
        )
    return split.astype(bool)

"""Folders of image files: a folder for each client, or one for each class."""

import os
import pathlib

import numpy as np

from tff_transfer.data import checks, federated, image_files
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError


def read(
    path: str | os.PathLike[str], *, test_fraction: float = 0.1, split_seed: int = 0
) -> FederatedData:
    """Reads a folder of images; see `by_client.load` for how it is laid out.

    Args:
      path: The folder. Files that are no images, and hidden ones, are passed over.
      test_fraction: The share of test examples, where there is no `train`/`test`.
      split_seed: The seed of that draw.

    Returns:
      The data; a label's name is its folder's.

    Raises:
      UserError: No images, unequal depths, no clients, or a damaged image.
    """
    path = pathlib.Path(path)
    found = _image_paths(path)
    if not found:
        raise UserError(
            f'{path}: holds no images ({", ".join(image_files.SUFFIXES)}); lay them out'
            ' as CLIENT/LABEL/FILE.png'
        )
    parts = [file.relative_to(path).parts for file in found]
    is_test = None
    if {part[0] for part in parts} == {'train', 'test'}:
        is_test = np.array([part[0] == 'test' for part in parts])
        parts = [part[1:] for part in parts]
    depths = {len(part) for part in parts}
    if depths == {3}:
        clients = [part[0] for part in parts]
        labels = [part[1] for part in parts]
    elif depths == {2}:
        clients = _clients_of_names(path, [part[1] for part in parts])
        labels = [part[0] for part in parts]
    else:
        raise UserError(
            f'{path}: images stand {sorted(depths)} levels deep; lay all of them out as'
            ' CLIENT/LABEL/FILE.png or LABEL/CLIENT_FILE.png'
        )
    y, class_names = checks.index_labels(labels)
    return federated.from_rows(
        path.name or str(path),
        image_files.read(found),
        y,
        np.array(clients),
        class_names=class_names,
        is_test=is_test,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )


def _image_paths(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the image files below a folder, sorted."""

    def refuse(error: OSError):
        raise UserError(f'{error.filename}: cannot be read: {error.strerror}')

    found = []
    for folder, folders, names in os.walk(path, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith('.')]
        found += [
            pathlib.Path(folder, name)
            for name in names
            if name.lower().endswith(image_files.SUFFIXES) and name[0] != '.'
        ]
    return sorted(found)


def _clients_of_names(path: pathlib.Path, names: list[str]) -> list[str]:
    """Returns what stands before the last underscore of each file's name."""
    clients = [name.rpartition('_')[0] for name in names]
    if not all(clients) or len(set(clients)) < 2:
        raise UserError(
            f'{path}: has a folder for each class, but its file names do not name two'
            ' clients or more (LABEL/CLIENT_FILE.png); name them so, lay them out as'
            ' CLIENT/LABEL/FILE.png, or deal the images out with'
            ' tff_transfer.data.partition'
        )
    return clients

"""Folders of image files: a folder for each client, or one for each class."""

import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from tff_transfer.data import checks, federated, image_files, parts
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError


def read(
    path: str | os.PathLike[str],
    *,
    image_size: tuple[int, int] | None = None,
    test_fraction: float = 0.1,
    split_seed: int = 0,
) -> FederatedData:
    """Reads a folder of images; see `by_client.load` for how it is laid out.

    Links to folders are followed, but not those to a folder in which they stand.

    Args:
      path: The folder. Files that are no images, and hidden ones, are passed over.
      image_size: As in `image_files.read`.
      test_fraction: The share of test examples, where there is no folder `test`.
      split_seed: The seed of that draw.

    Returns:
      The data; a label's name is its folder's. Names that are no UTF-8 stand there
      as `printable` writes them.

    Raises:
      UserError: No images, unequal depths, no clients, or a damaged image.
    """
    path = pathlib.Path(path)
    try:
        found = sorted(_image_paths(path, path.resolve(), ()))
    except OSError as error:
        raise UserError(
            f'{error.filename or path}: cannot be read: {error.strerror}'
        ) from error
    if not found:
        raise UserError(
            f'{path}: holds no images ({", ".join(image_files.SUFFIXES)}); lay them out'
            ' as CLIENT/LABEL/FILE.png'
        )
    places = [file.relative_to(path).parts for file in found]
    is_test = None
    tops = {place[0] for place in places}
    if tops <= set(parts.IS_TEST):
        is_test = parts.is_test(path, [place[0] for place in places])
        places = [place[1:] for place in places]
    elif {'train', 'test'} <= tops:
        other = min(tops - set(parts.IS_TEST))
        raise UserError(
            f'{path}: has the folders train and test, but also {other}; remove it, or'
            ' move it into one of them'
        )
    depths = {len(place) for place in places}
    if depths == {3}:
        clients = [place[0] for place in places]
        labels = [place[1] for place in places]
    elif depths == {2}:
        clients = _clients_of_names(path, [place[1] for place in places])
        labels = [place[0] for place in places]
    else:
        raise UserError(
            f'{path}: images stand {sorted(depths)} levels deep; lay all of them out as'
            ' CLIENT/LABEL/FILE.png or LABEL/CLIENT_FILE.png'
        )
    y, class_names = checks.index_labels(_all_printable(path, labels))
    return federated.from_rows(
        printable(path.name or str(path)),
        image_files.read(found, image_size=image_size),
        y,
        np.array(_all_printable(path, clients)),
        class_names=class_names,
        is_test=is_test,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )


def printable(name: str) -> str:
    r"""Returns a file's name with what is no UTF-8 in it as text: `caf\xe9`."""
    return os.fsencode(name).decode('utf-8', 'backslashreplace')


def _all_printable(path: pathlib.Path, names: Sequence[str]) -> list[str]:
    """Returns names as `printable` does, as many different ones as there were."""
    texts = {name: printable(name) for name in names}
    originals: dict[str, str] = {}
    for name, text in texts.items():
        if originals.setdefault(text, name) != name:
            raise UserError(
                f'{path}: two folders or clients are called {text} when written in'
                ' UTF-8; rename one'
            )
    return [texts[name] for name in names]


def _image_paths(
    folder: pathlib.Path, real: pathlib.Path, above: tuple[pathlib.Path, ...]
) -> Iterator[pathlib.Path]:
    """Gives the image files below a folder.

    Args:
      folder: The folder, as it was come to.
      real: The same without links.
      above: The folders on the way to it, without links.

    Raises:
      OSError: A folder cannot be read.
    """
    with os.scandir(folder) as entries:
        entries = [entry for entry in entries if not entry.name.startswith('.')]
    above = (*above, real)
    for entry in entries:
        path = folder / entry.name
        if entry.is_dir():
            inner = path.resolve() if entry.is_symlink() else real / entry.name
            if not any(outer.is_relative_to(inner) for outer in above):
                yield from _image_paths(path, inner, above)
        elif entry.name.lower().endswith(image_files.SUFFIXES):
            yield path


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

"""Arrays of images, labels and client ids in NumPy's `.npz` files."""

import os
import pathlib
import re
import zipfile
import zlib

import numpy as np

from tff_transfer.data import checks, federated
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError

# The words of which a key may consist; the last one that is known counts.
_WORDS = {
    'image': 'pixels pixel images image imgs img x data features inputs',
    'label': 'labels label y target targets class classes category categories',
    'client': 'clients client users user writers writer owner owners site sites'
    ' hospital hospitals patient patients subject subjects device devices group groups',
    'test': 'test',
}
_ROLE_OF_WORD = {word: role for role, words in _WORDS.items() for word in words.split()}
_PARTS = {'train': False, 'training': False, 'val': False, 'valid': False,
          'validation': False, 'test': True}  # fmt: skip


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads all arrays of an `.npz` file.

    Args:
      path: The file.

    Returns:
      The arrays by key.

    Raises:
      UserError: The file is absent, unreadable, truncated, damaged, no `.npz`, or
        holds Python objects.
    """
    path = pathlib.Path(path)
    try:
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise ValueError('a single array, .npy')
        with archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError as error:
        raise UserError(f'{path}: no such file; check the path') from error
    except (PermissionError, IsADirectoryError) as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    except ValueError as error:
        if 'Object arrays' in str(error):
            raise UserError(
                f'{path}: holds Python objects; save plain arrays (strings as dtype'
                ' str, images of one size)'
            ) from error
        raise _damaged(path, error) from error
    except (OSError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, error) from error


def _damaged(path: pathlib.Path, error: Exception) -> UserError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(
        f'{path}: is truncated, damaged or no .npz file ({reason}); write it again'
        ' with numpy.savez'
    )


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
    arrays, text is the clients and integers are the labels.

    Args:
      path: The file.
      image_key: The key of the images, if it is not found out.
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
    arrays = read_arrays(path)
    named = {'image': image_key, 'label': label_key, 'client': client_key}
    for role, key in named.items():
        if key is not None and key not in arrays:
            raise UserError(
                f'{path}: has no array {key!r} for --{role}_key ({role}_key= in'
                f' Python), but {_listing(arrays)}'
            )
    keys = _find_keys(path, arrays, named)
    labels = arrays[keys['label']]
    class_names = ()
    if labels.dtype.kind in 'US':
        labels, class_names = checks.index_labels(labels.astype(str).ravel())
    test = keys.get('test')
    return federated.from_rows(
        path.name,
        arrays[keys['image']],
        labels,
        arrays[keys['client']].ravel(),
        class_names=class_names,
        is_test=None if test is None else arrays[test].ravel().astype(bool),
        test_fraction=test_fraction,
        split_seed=split_seed,
    )


def _find_keys(
    path: pathlib.Path, arrays: dict[str, np.ndarray], named: dict[str, str | None]
) -> dict[str, str]:
    """Returns the key of each role: image, label, client and perhaps test."""
    keys = {role: key for role, key in named.items() if key is not None}
    free = [key for key in arrays if key not in keys.values()]
    if 'image' not in keys:
        dimensions = [
            [
                key
                for key in free
                if arrays[key].ndim in wanted and not _is_flat(arrays[key])
            ]
            for wanted in ((3, 4), (2,))
        ]
        candidates = dimensions[0] or dimensions[1]
        keys['image'] = _only(path, arrays, 'image', candidates)
    examples = len(arrays[keys['image']])
    free = [
        key
        for key in free
        if key != keys['image']
        and _is_flat(arrays[key])
        and len(arrays[key]) == examples
    ]
    tests = [key for key in free if _role(key) == 'test' and _is_binary(arrays[key])]
    if tests:
        keys['test'] = _only(path, arrays, 'test', tests)
    free = [key for key in free if key not in tests]
    wanted = [role for role in ('label', 'client') if role not in keys]
    for role in wanted:
        found = [key for key in free if _role(key) == role]
        if found:
            keys[role] = _only(path, arrays, role, found)
    free = [key for key in free if key not in keys.values()]
    wanted = [role for role in wanted if role not in keys]
    if len(wanted) == len(free) == 2:
        texts = [key for key in free if arrays[key].dtype.kind in 'US']
        if len(texts) == 1:
            keys['client'] = texts[0]
            keys['label'] = free[1 - free.index(texts[0])]
            return keys
    for role in wanted:
        # What is left over may have this role only if it looks like it.
        left = [key for key in free if _can_be(role, arrays[key])]
        keys[role] = _only(path, arrays, role, left)
    return keys


def _can_be(role: str, array: np.ndarray) -> bool:
    """Returns whether an array without a telling name can hold labels or clients."""
    if role == 'label':
        return array.dtype.kind in 'iuUS'
    return array.dtype.kind in 'iuUS' and len(np.unique(array)) < len(array)


def _only(
    path: pathlib.Path, arrays: dict[str, np.ndarray], role: str, keys: list[str]
) -> str:
    """Returns the one key, by its name if there are several."""
    if len(keys) > 1:
        keys = [key for key in keys if _role(key) == role] or keys
    if len(keys) == 1:
        return keys[0]
    problem = 'no array' if not keys else f'more than one array ({", ".join(keys)})'
    remedy = f'name it with --{role}_key ({role}_key= in Python)'
    if role == 'client' and not keys:
        remedy += ', or deal the examples out with tff_transfer.data.partition'
    raise UserError(
        f'{path}: {problem} can be the {role}s among {_listing(arrays)}; {remedy}'
    )


def _listing(arrays: dict[str, np.ndarray]) -> str:
    return ', '.join(
        f'{key} {array.dtype}{list(array.shape)}' for key, array in arrays.items()
    )


def _role(key: str) -> str | None:
    """Returns which role the words in a key speak of, or None."""
    words = re.findall('[a-z]+', re.sub('([a-z])([A-Z])', r'\1_\2', key).lower())
    roles = {_ROLE_OF_WORD[word] for word in words if word in _ROLE_OF_WORD}
    return roles.pop() if len(roles) == 1 else None


def _is_flat(array: np.ndarray) -> bool:
    """Returns whether an array has one value an example."""
    return array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)


def _is_binary(array: np.ndarray) -> bool:
    return array.dtype == bool or bool(np.isin(array, (0, 1)).all())


def read_central(
    path: str | os.PathLike[str],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reads examples that belong to no clients, for `partition`.

    The keys are pairs of images and labels, each pair perhaps for one part of the
    data: `x_train`, `y_train`, `x_test`, `y_test`, or `train_images`, `val_labels`
    and so on. Validation examples become training examples.

    Args:
      path: The file.

    Returns:
      Images [n, ...] and labels [n] of all parts, and which rows are test examples,
      bool [n].

    Raises:
      UserError: The file is damaged, or its keys are no such pairs.
    """
    path = pathlib.Path(path)
    arrays = read_arrays(path)
    parts: dict[str, dict[str, np.ndarray]] = {}
    for key, array in arrays.items():
        words = key.lower().split('_')
        part = next((word for word in words if word in _PARTS), '')
        role = _role('_'.join(word for word in words if word != part))
        parts.setdefault(part, {})[role] = array
    if not arrays or any(not {'image', 'label'} <= set(p) for p in parts.values()):
        raise UserError(
            f'{path}: its arrays are no pairs such as x_train and y_train, but'
            f' {_listing(arrays) or "none"}; name them so'
        )
    shapes = {arrays['image'].shape[1:] for arrays in parts.values()}
    if len(shapes) > 1:
        raise UserError(f'{path}: the parts have images of unlike shapes: {shapes}')
    return (
        np.concatenate([arrays['image'] for arrays in parts.values()]),
        np.concatenate([arrays['label'].ravel() for arrays in parts.values()]),
        np.concatenate(
            [
                np.full(len(arrays['image']), _PARTS.get(part, False))
                for part, arrays in parts.items()
            ]
        ),
    )

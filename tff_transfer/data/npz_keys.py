"""Which array of an `.npz` file is which, by names, shapes and dtypes."""

import pathlib
import re

import numpy as np

from tff_transfer.data import parts
from tff_transfer.errors import UserError

# The words of which a key may consist; it has a role if they speak of one alone.
_WORDS = {
    'image': 'pixels pixel images image imgs img x data features inputs',
    'label': 'labels label y target targets class classes category categories',
    'client': 'clients client users user writers writer owner owners site sites'
    ' hospital hospitals patient patients subject subjects device devices group groups',
    'split': 'split splits',
}
_ROLE_OF_WORD = {word: role for role, words in _WORDS.items() for word in words.split()}
# As in `xtrain` and `testlabels`.
_GLUED = re.compile('({0})({1})|({1})({0})'.format(
    '|'.join(parts.IS_TEST), '|'.join(_ROLE_OF_WORD)
))  # fmt: skip


def find(
    path: pathlib.Path,
    arrays: dict[str, np.ndarray],
    named: dict[str, str | None],
    wanted: tuple[str, ...] = ('label', 'client'),
) -> dict[str, str]:
    """Finds the key of each role.

    Args:
      path: The file, for errors.
      arrays: Its arrays by key, joined.
      named: The keys that the user named, by role.
      wanted: The roles that must have an array, beside `image`.

    Returns:
      The keys of `image`, of what is wanted and, if it is there, of `split`.

    Raises:
      UserError: It is not clear which array is which.
    """
    keys = {role: key for role, key in named.items() if key is not None}
    for role, key in keys.items():
        if key not in arrays:
            raise UserError(
                f'{path}: has no array {key!r} for --{role}_key ({role}_key= in'
                f' Python), but {_listing(arrays)}'
            )
        if list(keys.values()).count(key) > 1:
            raise UserError(
                f'{path}: {key!r} is named for two of image_key, label_key and'
                ' client_key; name one array for each'
            )
    free = [key for key in arrays if key not in keys.values()]
    if 'image' not in keys:
        keys['image'] = _find_image(path, arrays, free)
    rows = arrays[keys['image']].shape[:1]
    free = [
        key for key in free if key != keys['image'] and arrays[key].shape[:1] == rows
    ]
    one_hot = [key for key in free if role_of(key) == 'label' and arrays[key].ndim == 2]
    free = [key for key in free if _is_flat(arrays[key])]
    splits = [key for key in free if role_of(key) == 'split']
    if splits:
        keys['split'] = _only(path, arrays, 'split', splits)
    free = [key for key in free if key not in splits]
    wanted = [role for role in wanted if role not in keys]
    for role in wanted:
        found = [key for key in free if role_of(key) == role]
        found += [key for key in one_hot if role == 'label' and key not in found]
        if found:
            keys[role] = _only(path, arrays, role, found)
    free = [key for key in free if key not in keys.values() and not role_of(key)]
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


def _find_image(
    path: pathlib.Path, arrays: dict[str, np.ndarray], free: list[str]
) -> str:
    """Returns the key of the images or vectors among those that are free."""
    free = [
        key
        for key in free
        if arrays[key].ndim in (2, 3, 4)
        and not _is_flat(arrays[key])
        and role_of(key) in ('image', None)
    ]
    found = [key for key in free if arrays[key].ndim > 2] or free
    chosen = _only(path, arrays, 'image', found)
    rivals = [
        key
        for key in free
        if role_of(key) == 'image' and len(arrays[key]) == len(arrays[chosen])
    ]
    if set(rivals) - {chosen}:
        raise _unclear(path, arrays, 'image', sorted({chosen, *rivals}))
    return chosen


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
        keys = [key for key in keys if role_of(key) == role] or keys
    if len(keys) == 1:
        return keys[0]
    raise _unclear(path, arrays, role, keys)


def _unclear(
    path: pathlib.Path, arrays: dict[str, np.ndarray], role: str, keys: list[str]
) -> UserError:
    problem = 'no array' if not keys else f'more than one array ({", ".join(keys)})'
    remedy = f'name it with --{role}_key ({role}_key= in Python)'
    if role == 'split':
        remedy = 'keep one of them'
    if role == 'client' and not keys:
        remedy += ', or deal the examples out with tff_transfer.data.partition'
    return UserError(
        f'{path}: {problem} can be the {role}s among {_listing(arrays)}; {remedy}'
    )


def _listing(arrays: dict[str, np.ndarray]) -> str:
    """Returns the keys with their dtypes and shapes, for errors."""
    listed = [
        f'{key} {array.dtype}{list(array.shape)}' for key, array in arrays.items()
    ]
    return ', '.join(listed) or 'none'


def role_of(key: str) -> str | None:
    """Returns which role the words in a key speak of, or None.

    A word of a part, such as `test`, counts where no other does: `is_test` tells the
    split.
    """
    words = words_of(key)
    roles = {_ROLE_OF_WORD[word] for word in words if word in _ROLE_OF_WORD}
    if not roles and any(word in parts.IS_TEST for word in words):
        return 'split'
    return roles.pop() if len(roles) == 1 else None


def words_of(key: str) -> list[str]:
    """Returns the words of a key in lower case: `xTest`, `x_test` and `xtest` alike."""
    words = re.findall('[a-z]+', re.sub('([a-z])([A-Z])', r'\1_\2', key).lower())
    glued = [_GLUED.fullmatch(word) for word in words]
    return [
        piece
        for word, match in zip(words, glued, strict=True)
        for piece in (filter(None, match.groups()) if match else [word])
    ]


def flat(array: np.ndarray) -> np.ndarray:
    """Returns [n, 1], one value an example, as [n]; other arrays as they are."""
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _is_flat(array: np.ndarray) -> bool:
    """Returns whether an array has one value an example."""
    return flat(array).ndim == 1

"""Joins the training, validation and test arrays of an `.npz` file."""

import pathlib

import numpy as np

from tff_transfer.data import npz_keys
from tff_transfer.data.parts import IS_TEST
from tff_transfer.errors import UserError


def join(
    path: pathlib.Path, arrays: dict[str, np.ndarray], named: dict[str, str | None]
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Joins the arrays of a file that has some for each part of the data.

    The keys then name an array and its part, such as `x_train` and `x_test`, or
    `val_labels`. Validation examples become training examples.

    Args:
      path: The file, for errors.
      arrays: Its arrays by key.
      named: The names that the user gave, by role; they name joined arrays, unless
        one is the key of a single part, which is then read alone.

    Returns:
      The arrays of all rows, by what the keys of their parts have in common, and
      which rows are test examples, bool [n]. If no keys name parts, the same arrays
      and None; None also if there is no test part.

    Raises:
      UserError: An array lacks a part, or its parts do not fit together; or an array
        that is of no part has a role too.
    """
    if any(key in arrays for key in named.values()):
        return arrays, None
    parts = _keys_by_part(path, arrays, named)
    if not parts:
        return arrays, None
    names = dict.fromkeys(name for keys in parts.values() for name in keys)
    of_name = {name: [keys.get(name) for keys in parts.values()] for name in names}
    # What the other arrays must be as long as.
    image = next(name for name in names if _is_image(name, named))
    others = {key for name in names if name != image for key in of_name[name]}
    arrays = {
        key: npz_keys.flat(array) if key in others else array
        for key, array in arrays.items()
    }
    joined = {}
    for name in dict.fromkeys([image, *names]):
        problem = _misfit(arrays, list(parts), of_name[name], of_name[image])
        if not problem:
            joined[name] = np.concatenate([arrays[key] for key in of_name[name]])
        elif npz_keys.role_of(name) or name in named.values():
            raise UserError(f'{path}: {problem}; give each part the same arrays')
    lengths = [len(arrays[key]) for key in of_name[image]]
    _check_others(path, arrays, of_name, lengths)
    is_test = np.repeat([IS_TEST[part] for part in parts], lengths)
    return joined, is_test if is_test.any() else None


def _is_image(name: str, named: dict[str, str | None]) -> bool:
    return npz_keys.role_of(name) == 'image' or name == named.get('image')


def _keys_by_part(
    path: pathlib.Path, arrays: dict[str, np.ndarray], named: dict[str, str | None]
) -> dict[str, dict[str, str]]:
    """Returns each part's keys by what they are without its name; perhaps none."""
    parts: dict[str, dict[str, str]] = {}
    for key in arrays:
        words = npz_keys.words_of(key)
        found = [word for word in words if word in IS_TEST]
        name = '_'.join(word for word in words if word not in IS_TEST)
        # `is_test` is an array of all rows.
        if len(found) != 1 or name in ('', 'is', 'mask', 'is_mask'):
            continue
        keys = parts.setdefault(found[0], {})
        if name in keys:
            raise UserError(
                f'{path}: {keys[name]} and {key} both are the {name} of the part'
                f' {found[0]}; keep one'
            )
        keys[name] = key
    has_images = any(_is_image(name, named) for keys in parts.values() for name in keys)
    return {
        part: keys
        for part, keys in parts.items()
        if has_images
        and any(npz_keys.role_of(name) or name in named.values() for name in keys)
    }


def _misfit(
    arrays: dict[str, np.ndarray],
    parts: list[str],
    keys: list[str | None],
    images: list[str | None],
) -> str:
    """Returns why the arrays of the parts cannot be joined, or nothing."""
    some = next(key for key in keys if key)
    for part, key, image in zip(parts, keys, images, strict=True):
        if key is None:
            return f'has {some}, but no such array of the part {part}'
        if not arrays[key].ndim or len(arrays[key]) != len(arrays[image]):
            shapes = f'{list(arrays[key].shape)} and {list(arrays[image].shape)}'
            return f'{key} and {image} differ in length, {shapes}'
        if arrays[key].shape[1:] != arrays[some].shape[1:]:
            shapes = f'{list(arrays[some].shape)} and {list(arrays[key].shape)}'
            return f'{some} and {key} are of unlike shapes, {shapes}'
        kinds = {arrays[k].dtype.kind.replace('u', 'i') for k in (some, key)}
        if len(kinds) > 1 or arrays[key].dtype.names:
            dtypes = f'{arrays[some].dtype} and {arrays[key].dtype}'
            return f'{some} and {key} are of unlike dtypes, {dtypes}'
    return ''


def _check_others(
    path: pathlib.Path,
    arrays: dict[str, np.ndarray],
    of_name: dict[str, list[str | None]],
    lengths: list[int],
) -> None:
    """Raises if an array without a part looks like one of the data."""
    in_parts = {key for keys in of_name.values() for key in keys}
    for key, array in arrays.items():
        role = npz_keys.role_of(key)
        if key in in_parts or role is None or not array.ndim:
            continue
        if len(array) in (sum(lengths), *lengths) or (
            role == 'image' and array.ndim > 1
        ):
            first = next(iter(of_name.values()))[0]
            raise UserError(
                f'{path}: {key} is of no part, but {first} is; give all arrays for each'
                ' part (x_train, x_test, ...), or one of each kind for all rows'
            )

"""What labels and client ids must be, and what they are turned into."""

import re
from collections.abc import Sequence

import numpy as np
from absl import logging

from tff_transfer.errors import UserError, one_line

# A larger label is taken for a mistake, such as an id, unless the caller insists.
_MOST_CLASSES = 100_000
# What digits such as 007 and 1_000 are: text.
_NO_NUMBER = re.compile(r'[+-]?0\d|.*_')


def labels(name: str, y: np.ndarray) -> np.ndarray:
    """Returns labels [n], int32; of one-hot labels [n, classes] each row's place."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] > 1:
        y = _places(name, y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise UserError(
            f'{name}: labels of shape {y.shape}; give one integer an example'
        )
    if y.dtype.kind not in 'biuf':
        raise UserError(f'{name}: labels have dtype {y.dtype}; give integers from 0 on')
    if y.dtype.kind == 'f':
        wrong = np.flatnonzero(~np.isfinite(y) | (y != np.round(y)))
        if len(wrong):
            raise UserError(
                f'{name}: the label of example {wrong[0]} is {y[wrong[0]]:g}; give'
                ' integers from 0 on, and none that is missing'
            )
    if len(y) and y.min() < 0:
        raise UserError(
            f'{name}: the label of example {y.argmin()} is {y.min():g}; labels must be'
            ' 0 or more'
        )
    if len(y) and y.max() > np.iinfo(np.int32).max:
        raise UserError(f'{name}: the label {y.max():g} does not fit in int32')
    return y.astype(np.int32)


def _places(name: str, y: np.ndarray) -> np.ndarray:
    """Returns where the one 1 of each row is."""
    if y.dtype.kind not in 'biuf' or not np.isin(y, (0, 1)).all():
        raise UserError(
            f'{name}: labels of shape {y.shape} are not one-hot, 0 and 1; give one'
            ' integer an example (argmax of probabilities)'
        )
    wrong = np.flatnonzero(y.sum(axis=1) != 1)
    if len(wrong):
        raise UserError(
            f'{name}: example {wrong[0]} has {int(y[wrong[0]].sum())} labels in'
            f' one-hot labels of shape {y.shape}; give one label an example, as'
            ' several are not supported'
        )
    return y.argmax(axis=1)


def num_classes(
    name: str, y: np.ndarray, num_classes: int | None, class_names: Sequence[str]
) -> int:
    """Returns the number of labels, which all of `y` and `class_names` keep to."""
    if num_classes is None:
        num_classes = len(class_names) or int(y.max()) + 1
        if num_classes > _MOST_CLASSES:
            raise UserError(
                f'{name}: the label of example {y.argmax()} is {y.max()}, which would'
                f' make {num_classes} classes; number the labels from 0 on, or give'
                ' num_classes'
            )
    if y.max() >= num_classes:
        raise UserError(
            f'{name}: the label of example {y.argmax()} is {y.max()}, but there are'
            f' {num_classes} classes, so it must be at most {num_classes - 1}'
        )
    _check_class_names(name, class_names, num_classes)
    _say_classes(name, y, num_classes, class_names)
    return num_classes


def _check_class_names(name: str, class_names: Sequence[str], num_classes: int) -> None:
    if class_names and len(class_names) != num_classes:
        raise UserError(
            f'{name}: {len(class_names)} class names for {num_classes} classes'
        )


def _say_classes(
    name: str, y: np.ndarray, num_classes: int, class_names: Sequence[str]
) -> None:
    """Logs which classes are not what their numbers suggest."""
    if any(n.isdecimal() and n != str(i) for i, n in enumerate(class_names)):
        logging.warning(
            '%s: the labels %s are classes 0 to %d, in this order',
            name, _some(class_names), num_classes - 1,
        )  # fmt: skip
    empty = np.flatnonzero(np.bincount(y, minlength=num_classes) == 0)
    if len(empty):
        logging.warning(
            '%s: %d of %d classes have no examples: %s',
            name, len(empty), num_classes,
            _some([class_names[i] if class_names else str(i) for i in empty]),
        )  # fmt: skip


def _some(words: Sequence[str]) -> str:
    return ', '.join(words[:5]) + (', ...' if len(words) > 5 else '')


def ids(name: str, clients: np.ndarray) -> np.ndarray:
    """Returns client ids as integers or strings, so that they sort as expected."""
    kind = clients.dtype.kind
    if kind in 'iu':
        return clients
    if kind == 'f':
        # From 2 ** 53 on, floats that are equal may have been two ids.
        if not (np.abs(clients) < 2**53).all() or (clients != np.round(clients)).any():
            raise UserError(
                f'{name}: some client ids are missing, infinite or fractions; give'
                ' integers or strings'
            )
        return clients.astype(np.int64)
    if kind == 'U' or (kind == 'O' and all(isinstance(c, str) for c in clients)):
        return clients.astype(str)
    if kind == 'S':
        return text(clients)
    raise UserError(
        f'{name}: the client ids have dtype {clients.dtype}; give integers or strings,'
        ' all of one kind'
    )


def names(name: str, unique: np.ndarray) -> tuple[str, ...]:
    """Returns client ids that are sorted and all different as text."""
    try:
        found = tuple(str(client) for client in unique)
        for client in found:
            client.encode()
    except ValueError as error:
        raise UserError(
            f'{name}: a client id is no Unicode text ({one_line(error)}); rename it'
        ) from error
    return found


def text(array: np.ndarray) -> np.ndarray:
    """Returns bytes as text: UTF-8 if all are, else Latin-1; unlike stay unlike."""
    if array.dtype.kind != 'S':
        return array.astype(str)
    try:
        return np.char.decode(array, 'utf-8')
    except UnicodeDecodeError:
        return np.char.decode(array, 'latin-1')


def population(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    counts: dict[str, np.ndarray],
    client_ids: Sequence[str],
    num_classes: int,
    class_names: Sequence[str],
) -> None:
    """Raises if the fields of a `FederatedData` are not of the kinds they must be."""
    if getattr(x, 'dtype', None) not in (np.uint8, np.float32) or len(x.shape) < 2:
        raise UserError(
            f'{name}: the inputs are {_kind(x)}, but must be images, uint8 or float32'
            ' [n, height, width, 1 or 3], or vectors, float32 [n, size]; convert them,'
            ' or use tff_transfer.data.federated.from_rows'
        )
    if not isinstance(y, np.ndarray) or y.dtype != np.int32 or y.ndim != 1:
        raise UserError(
            f'{name}: the labels are {_kind(y)}, but must be int32 [n]; convert them'
            ' with astype(np.int32)'
        )
    for field, count in counts.items():
        is_count = isinstance(count, np.ndarray) and count.dtype.kind in 'iu'
        if not is_count or count.ndim != 1 or (count < 0).any():
            raise UserError(
                f'{name}: {field} is {_kind(count)}, but must be an array of integers,'
                ' at least 0, one a client'
            )
    if not all(isinstance(client, str) for client in client_ids):
        raise UserError(f'{name}: some client ids are no strings; give str(id)')
    if not isinstance(num_classes, int | np.integer) or num_classes < 1:
        raise UserError(
            f'{name}: num_classes is {num_classes!r}, but must be an integer from 1 on'
        )
    if len(y) and not 0 <= y.min() <= y.max() < num_classes:
        raise UserError(
            f'{name}: the labels are in [{y.min()}, {y.max()}], but must be in'
            f' [0, {num_classes - 1}] for {num_classes} classes'
        )
    _check_class_names(name, class_names, num_classes)


def _kind(value) -> str:
    """Returns what a value is, in a few words."""
    if hasattr(value, 'dtype') and hasattr(value, 'shape'):
        return f'{value.dtype} {list(value.shape)}'
    return f'a {type(value).__name__}'


def index_labels(labels: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers the labels that occur, where they are not numbers of classes already.

    Whole numbers that begin at 0, at least half of those up to the largest, are
    classes as they are: one that has no example keeps its number. Other numbers, such
    as 1 to 10, or 10 and 100, and all other text are numbered from 0 in their sorted
    order. Text such as `01` is no number.

    Args:
      labels: The labels [n], text or numbers.

    Returns:
      The labels as numbers [n], and the class names: what the labels were, or empty
      if they are kept. What cannot be labels is left to `labels` to refuse.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in 'iufUS' or not len(labels):
        return labels, ()
    if labels.dtype.kind in 'US':
        names, y = np.unique(text(labels), return_inverse=True)
        numbers = _numbers(names)
        if numbers is None:
            return y, tuple(str(name) for name in names)
        labels = numbers[y]
    values, y = np.unique(labels, return_inverse=True)
    whole = np.isfinite(values).all() and (values == np.round(values)).all()
    are_classes = values[0] == 0 and 2 * len(values) > values[-1]
    if not whole or values[0] < 0 or are_classes:
        return labels, ()
    return y, tuple(str(int(value)) for value in values)


def _numbers(names: np.ndarray) -> np.ndarray | None:
    """Returns the numbers that unlike texts write, or None if any is other text."""
    if any(_NO_NUMBER.match(name) for name in names):
        return None
    try:
        numbers = names.astype(np.float64)
    except ValueError:
        return None
    return numbers if len(np.unique(numbers)) == len(names) else None

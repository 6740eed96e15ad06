"""What inputs, labels and client ids must be, and what they are turned into."""

from collections.abc import Iterator, Sequence

import numpy as np

from tff_transfer.errors import UserError

# A larger label is taken for a mistake, such as an id, unless the caller insists.
_MOST_CLASSES = 100_000


def inputs(name: str, x: np.ndarray) -> np.ndarray:
    """Returns images [n, h, w, c] uint8 or float32, or vectors [n, size] float32."""
    x = np.asarray(x)
    if x.dtype.kind not in 'iuf':
        raise UserError(
            f'{name}: the inputs have dtype {x.dtype}; give numbers: images as uint8'
            ' or as floats in [0, 1], or vectors'
        )
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if (x.ndim == 4 and x.shape[3] not in (1, 3)) or x.ndim not in (2, 4):
        raise UserError(
            f'{name}: inputs of shape {x.shape}; give images [n, height, width],'
            ' [n, height, width, 1 or 3] or vectors [n, size]'
        )
    if 0 in x.shape[1:]:
        raise UserError(f'{name}: inputs of shape {x.shape} hold no values')
    if x.ndim == 2:
        if not all(np.isfinite(part).all() for part in _blocks(x)):
            raise UserError(f'{name}: some inputs are NaN or infinite; remove them')
        return x.astype(np.float32, copy=False)
    if x.dtype == np.uint8 or not len(x):
        return x
    # Minimum and maximum are NaN where any value is.
    low = np.min([part.min() for part in _blocks(x)])
    high = np.max([part.max() for part in _blocks(x)])
    if np.isnan(low):
        raise UserError(f'{name}: some pixels are NaN; remove or mend those images')
    is_float = x.dtype.kind == 'f'
    most = 1 if is_float else 255
    if low < 0 or high > most:
        remedy = 'divide by 255 or give uint8' if is_float else 'give uint8'
        raise UserError(
            f'{name}: pixels of dtype {x.dtype} are in [{low:g}, {high:g}], but must be'
            f' in [0, {most}]; {remedy}'
        )
    return x.astype(np.float32 if is_float else np.uint8, copy=False)


def _blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    """Gives `x` in blocks of rows, so that checks need no second copy of it."""
    return (x[start : start + 4096] for start in range(0, len(x), 4096))


def labels(name: str, y: np.ndarray) -> np.ndarray:
    """Returns labels [n], int32."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise UserError(
            f'{name}: labels of shape {y.shape}; give one integer an example'
            ' (argmax of one-hot labels)'
        )
    if y.dtype.kind not in 'iuf':
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
    if class_names and len(class_names) != num_classes:
        raise UserError(
            f'{name}: {len(class_names)} class names for {num_classes} classes'
        )
    return num_classes


def ids(name: str, clients: np.ndarray) -> np.ndarray:
    """Returns client ids as integers or strings, so that they sort as expected."""
    if clients.dtype.kind == 'f':
        if not np.array_equal(clients, np.round(clients)):
            raise UserError(
                f'{name}: some client ids are missing or fractions; give integers or'
                ' strings'
            )
        return clients.astype(np.int64)
    if clients.dtype.kind in 'iu':
        return clients
    if clients.dtype.kind == 'S':
        return np.char.decode(clients, 'utf-8', 'replace')
    return clients.astype(str)


def index_labels(labels: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turns labels that are written as text into integers.

    Args:
      labels: The labels [n], text.

    Returns:
      The labels as numbers [n], and the class names: if every label is a number,
      these numbers and no names; if not, each label's place among the sorted names.
    """
    names, y = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    try:
        return names.astype(np.float64)[y], ()
    except ValueError:
        return y, tuple(str(name) for name in names)

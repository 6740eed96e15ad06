"""What images and vectors must be, and what they are turned into."""

from collections.abc import Iterator

import numpy as np
from absl import logging

from tff_transfer.errors import UserError


def check(name: str, x: np.ndarray) -> np.ndarray:
    """Returns images [n, h, w, c] uint8 or float32, or vectors [n, size] float32.

    Of images with four channels the fourth, alpha, is left out; bool becomes 0 and
    255, floats in [-1, 1] are moved to [0, 1], and floats that are whole numbers up
    to 255 become uint8. What is lost or changed is logged.
    """
    x = np.asarray(x)
    if x.dtype.kind not in 'biuf':
        raise UserError(
            f'{name}: the inputs have dtype {x.dtype}; give numbers: images as uint8'
            ' or as floats in [0, 1], or vectors'
        )
    if x.ndim == 3:
        x = x[..., np.newaxis]
    if (x.ndim == 4 and x.shape[3] not in (1, 3, 4)) or x.ndim not in (2, 4):
        raise UserError(
            f'{name}: inputs of shape {x.shape}; give images [n, height, width],'
            ' [n, height, width, 1, 3 or 4] or vectors [n, size]'
        )
    if 0 in x.shape[1:]:
        raise UserError(f'{name}: inputs of shape {x.shape} hold no values')
    if x.ndim == 2:
        with np.errstate(over='ignore'):
            x = np.ascontiguousarray(x, np.float32)
        if not all(np.isfinite(part).all() for part in _blocks(x)):
            raise UserError(
                f'{name}: some inputs are NaN, infinite or too large for float32;'
                ' remove them'
            )
        return x
    if x.shape[3] == 4:
        logging.warning('%s: the fourth channel, alpha, is left out', name)
        x = x[..., :3]
    return np.ascontiguousarray(_pixels(name, x))


def _pixels(name: str, x: np.ndarray) -> np.ndarray:
    """Returns images as uint8 in [0, 255] or float32 in [0, 1]."""
    if x.dtype.kind == 'b':
        return x.astype(np.uint8) * np.uint8(255)
    if x.dtype == np.uint8 or not len(x):
        return x
    # Minimum and maximum are NaN where any value is.
    low = np.min([part.min() for part in _blocks(x)])
    high = np.max([part.max() for part in _blocks(x)])
    if np.isnan(low):
        raise UserError(f'{name}: some pixels are NaN; remove or mend those images')
    is_float = x.dtype.kind == 'f'
    if low >= 0 and high <= (1 if is_float else 255):
        return x.astype(np.float32 if is_float else np.uint8, copy=False)
    if not is_float:
        remedy = 'give uint8'
    elif low >= 0 and high <= 255:
        if all((part == np.rint(part)).all() for part in _blocks(x)):
            logging.warning('%s: pixels that are whole floats become uint8', name)
            return x.astype(np.uint8)
        remedy = 'divide by 255 or give uint8'
    # Where -1 stands for what is missing, nothing is between it and 0.
    elif -1 <= low < -0.9 and 0.9 < high <= 1 and _has_between(x, -1, 0):
        logging.warning('%s: pixels in [-1, 1] are moved to [0, 1]', name)
        x = x.astype(np.float32)
        return (x + 1) / 2
    else:
        remedy = 'bring them there, as (x - low) / (high - low) does, or give uint8'
    raise UserError(
        f'{name}: pixels of dtype {x.dtype} are in [{low:g}, {high:g}], but must be in'
        f' [0, {1 if is_float else 255}]; {remedy}'
    )


def _has_between(x: np.ndarray, low: float, high: float) -> bool:
    return any(((part > low) & (part < high)).any() for part in _blocks(x))


def _blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    """Gives `x` in blocks of rows, so that checks need no second copy of it."""
    return (x[start : start + 4096] for start in range(0, len(x), 4096))

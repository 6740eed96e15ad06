"""Image files to one array."""

import pathlib
from collections.abc import Sequence

import numpy as np
import PIL.Image

from tff_transfer import progress
from tff_transfer.errors import UserError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.gif', '.tif', '.tiff', '.webp', '.pgm',
            '.ppm')  # fmt: skip
# Pillow's modes of 8 bits or fewer, and what each becomes; transparency is dropped.
_MODES = {'1': 'L', 'L': 'L', 'LA': 'L', 'P': 'RGB', 'PA': 'RGB', 'RGB': 'RGB',
          'RGBA': 'RGB', 'RGBX': 'RGB', 'CMYK': 'RGB', 'YCbCr': 'RGB'}  # fmt: skip


def read(paths: Sequence[pathlib.Path]) -> np.ndarray:
    """Reads image files of one size.

    Args:
      paths: The files, at least one.

    Returns:
      uint8 [n, height, width, 1], or [n, height, width, 3] if any has colours.

    Raises:
      UserError: A file is absent, damaged, of more than 8 bits, or of another size
        than the first.
    """
    images = [
        _read_one(path) for path in progress.bar(paths, desc='images', unit='file')
    ]
    for path, image in zip(paths, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            raise UserError(
                f'{path}: is {_size(image)} pixels, but {paths[0]} is'
                f' {_size(images[0])}; bring all images to one size'
            )
    if any(image.ndim == 3 for image in images):
        images = [
            image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)
            for image in images
        ]
        return np.stack(images)
    return np.stack(images)[..., np.newaxis]


def _size(image: np.ndarray) -> str:
    return f'{image.shape[1]} x {image.shape[0]}'


def _read_one(path: pathlib.Path) -> np.ndarray:
    """Returns uint8 [height, width] or [height, width, 3]."""
    try:
        with PIL.Image.open(path) as image:
            if image.mode not in _MODES:
                raise UserError(
                    f'{path}: has more than 8 bits a pixel (mode {image.mode});'
                    ' convert it to 8-bit grey or RGB'
                )
            return np.asarray(image.convert(_MODES[image.mode]))
    except FileNotFoundError as error:
        raise UserError(f'{path}: no such image; check the path') from error
    except UserError:
        raise
    # Pillow raises these, and SyntaxError, for damaged files.
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UserError(
            f'{path}: is truncated, damaged or no image; replace or remove it'
        ) from error

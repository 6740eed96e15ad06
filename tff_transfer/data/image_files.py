"""Image files to one array."""

import contextlib
import io
import pathlib
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps

from tff_transfer import progress
from tff_transfer.errors import UserError

SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.gif', '.tif', '.tiff', '.webp', '.pgm',
            '.ppm')  # fmt: skip
# Pillow's modes of 8 bits or fewer, and what each becomes; transparency is dropped.
_MODES = {'1': 'L', 'L': 'L', 'LA': 'L', 'P': 'RGB', 'PA': 'RGB', 'RGB': 'RGB',
          'RGBA': 'RGB', 'RGBX': 'RGB', 'CMYK': 'RGB', 'YCbCr': 'RGB'}  # fmt: skip
_QUARTER_TURNED = (5, 6, 7, 8)


def read(
    sources: Sequence[pathlib.Path | bytes],
    names: Sequence[str] | None = None,
    *,
    image_size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Reads images, upright by their EXIF orientation.

    Args:
      sources: The files, or what is in them, at least one.
      names: What each is called in errors; its path if not given.
      image_size: Height and width that all are brought to if they are not of one
        size, by bilinear interpolation with antialiasing, as backbones do it.

    Returns:
      uint8 [n, height, width, 1], or [n, height, width, 3] if any has colours.

    Raises:
      UserError: A file is absent, damaged, too large, of several pictures, of more
        than 8 bits, or, without `image_size`, of another size than the first.
    """
    if image_size is not None and min(image_size) < 1:
        raise UserError(f'image_size is {image_size}, but its sides must be at least 1')
    names = [str(source) for source in sources] if names is None else names
    named = list(zip(names, sources, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter('error', PIL.Image.DecompressionBombWarning)
        bar = progress.bar(named, desc='looking at images', unit='file')
        headers = [_read_header(name, source) for name, source in bar]
        size = headers[0][0]
        for name, (other, _) in zip(names, headers, strict=True):
            if other != size and image_size is None:
                raise _of_another_size(name, other, names[0], size)
        mixed = any(other != size for other, _ in headers)
        size = image_size if mixed else size
        channels = 3 if any(mode == 'RGB' for _, mode in headers) else 1
        try:
            images = np.empty([len(named), *size, channels], np.uint8)
        except MemoryError as error:
            raise UserError(
                f'{names[0]} and {len(named) - 1} more images of {_text(size)} pixels'
                ' do not fit into memory; make them smaller'
            ) from error
        bar = progress.bar(named, desc='images', unit='file')
        for image, (name, source) in zip(images, bar, strict=True):
            pixels = _read_pixels(name, source, size if mixed else None)
            if pixels.shape[:2] != size:
                raise _of_another_size(name, pixels.shape[:2], names[0], size)
            image[:] = pixels
    return images


def _text(size: tuple[int, int]) -> str:
    return f'{size[1]} x {size[0]}'


def _of_another_size(
    name: str, size: tuple[int, int], first: str, first_size: tuple[int, int]
) -> UserError:
    return UserError(
        f'{name}: is {_text(size)} pixels, but {first} is {_text(first_size)}; bring'
        ' all to one size with --image_size (image_size= in Python)'
    )


def _read_header(
    name: str, source: pathlib.Path | bytes
) -> tuple[tuple[int, int], str]:
    """Returns height and width once upright, and the mode: `L` or `RGB`."""
    with _opened(name, source) as image:
        if image.mode not in _MODES:
            raise UserError(
                f'{name}: has more than 8 bits a pixel (mode {image.mode});'
                ' convert it to 8-bit grey or RGB'
            )
        if 0 in image.size:
            raise UserError(f'{name}: has no pixels; replace or remove it')
        # An MPO is a photograph with a second, smaller one for previews.
        if getattr(image, 'is_animated', False) and image.format != 'MPO':
            raise UserError(
                f'{name}: holds several pictures (frames or pages); save the one that'
                ' is meant'
            )
        mode, size = _MODES[image.mode], image.size[::-1]
        # Pillow gives a TIFF's size once upright, and decodes a PNG without EXIF in
        # its header to look for it at the end.
        if image.format != 'TIFF' and (image.format != 'PNG' or 'exif' in image.info):
            orientation = image.getexif().get(PIL.ExifTags.Base.Orientation)
            size = size[::-1] if orientation in _QUARTER_TURNED else size
        image.verify()
    return size, mode


def _read_pixels(
    name: str, source: pathlib.Path | bytes, size: tuple[int, int] | None
) -> np.ndarray:
    """Returns an upright image, of a size if one is given: uint8 [h, w, 1 or 3]."""
    with _opened(name, source) as image:
        PIL.ImageOps.exif_transpose(image, in_place=True)
        pixels = image.convert(_MODES[image.mode])
        if size is not None:
            pixels = pixels.resize(size[::-1], PIL.Image.Resampling.BILINEAR)
        return np.atleast_3d(np.asarray(pixels))


@contextlib.contextmanager
def _opened(name: str, source: pathlib.Path | bytes) -> Iterator[PIL.Image.Image]:
    """Opens an image; what Pillow finds wrong while it is open is a `UserError`."""
    try:
        # A pipe or a device would be read for ever.
        if isinstance(source, pathlib.Path) and not source.is_file():
            raise UserError(f'{name}: no such image; check the path')
        # Not by its path: Pillow would map the file, and so turn some TIFFs wrongly.
        is_path = isinstance(source, pathlib.Path)
        file = open(source, 'rb') if is_path else io.BytesIO(source)  # noqa: SIM115
        with file, PIL.Image.open(file) as image:
            yield image
    except UserError:
        raise
    except (
        PIL.Image.DecompressionBombError,
        PIL.Image.DecompressionBombWarning,
    ) as error:
        raise UserError(
            f'{name}: has more than {PIL.Image.MAX_IMAGE_PIXELS:,} pixels; make it'
            ' smaller or remove it'
        ) from error
    except Exception as error:  # Pillow raises all kinds for damaged files.
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f'{name}: cannot be read: {error.strerror}') from error
        raise UserError(
            f'{name}: is truncated, damaged or no image; replace or remove it'
        ) from error

"""NumPy's `.npz` files: every array whole, or one line that says why not."""

import math
import os
import pathlib
import zipfile

import numpy as np

from tff_transfer.errors import UserError, one_line

# What `numpy.savez` and `savez_compressed` write, and how small the latter can get.
_LEAST_SHARE = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1 / 1032}
# A later version of the format is only written for names of structured dtypes.
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads all arrays of an `.npz` file.

    `numpy.load` gives what is no array as bytes, allocates what a header claims, and
    compares no checksum where a header claims less than there is.

    Args:
      path: The file.

    Returns:
      The arrays by key.

    Raises:
      UserError: The file is absent, unreadable, truncated, damaged, no `.npz`, or
        holds Python objects.
    """
    path = pathlib.Path(path)
    arrays = {}
    try:
        with open(path, 'rb') as file, zipfile.ZipFile(file) as archive:
            # Else a damaged length in one entry hides those after it.
            file.seek(-22 - len(archive.comment), os.SEEK_END)
            members = int.from_bytes(file.read(12)[10:], 'little')
            if members != len(archive.infolist()):
                raise ValueError(f'has {len(archive.infolist())} of {members} members')
            for member in archive.infolist():
                key = member.filename.removesuffix('.npy')
                if key == member.filename or not key.isprintable() or key in arrays:
                    raise ValueError(f'its member {member.filename!r} is no array')
                arrays[key] = _read_member(path, archive, member)
    except FileNotFoundError as error:
        raise UserError(f'{path}: no such file; check the path') from error
    except (PermissionError, IsADirectoryError) as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    except MemoryError as error:
        raise UserError(f'{path}: does not fit in memory; give fewer rows') from error
    except UserError:
        raise
    # The readers of archives, of headers and zlib each have errors of their own.
    except Exception as error:
        raise UserError(
            f'{path}: is truncated, damaged or no .npz file ({one_line(error)}); write'
            ' it again with numpy.savez'
        ) from error
    return arrays


def _read_member(
    path: pathlib.Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo
) -> np.ndarray:
    """Reads one array; raises what the archive's and NumPy's readers raise."""
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version not in _HEADER_READERS:
            raise ValueError(f'{info.filename} has the format version {version}')
        shape, _, dtype = _HEADER_READERS[version](member)
        header_bytes = member.tell()
    if dtype.hasobject:
        raise UserError(
            f'{path}: holds Python objects; save plain arrays (strings as dtype str,'
            ' images of one size)'
        )
    claimed = header_bytes + math.prod(shape) * dtype.itemsize
    room = min(info.compress_size, path.stat().st_size)
    least = _LEAST_SHARE.get(info.compress_type, 0) * claimed
    if not dtype.itemsize or claimed != info.file_size or least > room + 1024:
        raise ValueError(f'the size of {info.filename} is not what its header says')
    with archive.open(info) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        # Its checksum is compared at its end only.
        member.read()
    if dtype.kind == 'U':
        _check_text(info.filename, array)
    return array


def _check_text(name: str, array: np.ndarray) -> None:
    """Raises if there are numbers in a text that stand for no character."""
    codes = np.frombuffer(array.tobytes(), array.dtype.byteorder + 'u4')
    if ((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any():
        raise ValueError(f'{name} holds text that is no Unicode')

"""The file of cached features: an array that any program reads, and its checksum.

A `.npy` file; after the array stand, for uint8, `low` and `step`, then a description
in JSON, its length (8 bytes), and a SHA-256 of all that comes after the header.
"""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import shutil
import struct
from collections.abc import Iterator, Mapping

import numpy as np

from tff_transfer import files, reprs
from tff_transfer.errors import UserError, one_line

DTYPES = ('float32', 'float16', 'uint8')

_CHECKSUM_BYTES = hashlib.sha256().digest_size
_LENGTH = struct.Struct('<Q')
_ROWS_OF_A_BLOCK = 4096


class BrokenError(ValueError):
    """A file that is not a whole one of this format."""


@dataclasses.dataclass(frozen=True, eq=False)
class Compact:
    """Features that are kept in fewer bytes, and are float32 where they are read.

    Attributes:
      stored: float16 or uint8 [n, ..., size], memory-mapped.
      low: What 0 stands for, float32 [size], for uint8.
      step: What 1 stands for more, float32 [size], for uint8.
    """

    stored: np.ndarray
    low: np.ndarray | None = None
    step: np.ndarray | None = None
    dtype = np.dtype(np.float32)

    __repr__ = reprs.of_fields

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, as of an array."""
        return self.stored.shape

    @property
    def ndim(self) -> int:
        """The number of axes, as of an array."""
        return self.stored.ndim

    def __len__(self) -> int:
        """Returns the number of examples."""
        return len(self.stored)

    def __getitem__(self, rows) -> np.ndarray:
        """Returns the features of some rows, float32."""
        values = self.stored[rows].astype(np.float32)
        return values if self.step is None else self.low + self.step * values

    def __array__(self, dtype=None):
        """Returns all features as an array."""
        return self[:] if dtype is None else self[:].astype(dtype)


def bytes_of(shape: tuple[int, ...], dtype: str) -> int:
    """Returns how many bytes an array takes."""
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def write(
    path: pathlib.Path,
    shape: tuple[int, ...],
    dtype: str,
    what: Mapping,
    batches: Iterator[np.ndarray],
) -> None:
    """Writes features, whole or not at all.

    Args:
      path: The file.
      shape: [n, ..., size].
      dtype: How they are kept, one of `DTYPES`.
      what: Their description, for JSON, with `shape` and `dtype`.
      batches: Gives them in order, float32 [batch, ..., size]; closed at the end.

    Raises:
      OSError: There is no room or no right to write.
      UserError: float16 cannot hold the features.
    """
    # The range of a feature is known when all have been seen: uint8 takes a detour.
    room = bytes_of(shape, dtype)
    room += bytes_of(shape, 'float32') if dtype == 'uint8' else 0
    if shutil.disk_usage(path.parent).free < room:
        raise OSError('the disk is too full')
    for left_by_killed in path.parent.glob(f'.{path.name}-*'):
        shutil.rmtree(left_by_killed, ignore_errors=True)
    with contextlib.closing(batches), files.replacing(path) as new:
        after = b''
        if dtype == 'uint8':
            batches, after = _quantised(batches, shape, new.with_suffix('.float32'))
        # Not a memory map, which a full disk would end with a signal.
        with open(new, 'wb') as file:
            digest = hashlib.sha256()

            def put(content):
                file.write(content)
                digest.update(content)

            descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
            np.lib.format.write_array_header_1_0(
                file, {'descr': descr, 'fortran_order': False, 'shape': shape}
            )
            for batch in batches:
                put(_as(batch, dtype).data)
            described = json.dumps(what).encode()
            for content in (after, described, _LENGTH.pack(len(described))):
                put(content)
            file.write(digest.digest())


def _as(batch: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over='ignore'):
        kept = np.ascontiguousarray(batch, dtype)
    if dtype == 'float16' and not np.isfinite(kept).all():
        raise UserError(
            f'a feature of {np.abs(batch).max():g} is beyond what float16 holds'
            ' (65504); use the cache dtype uint8 or float32'
        )
    return kept


def _quantised(batches, shape, scratch: pathlib.Path):
    """Returns the batches in steps of uint8, and the bytes of `low` and `step`."""
    low = np.full(shape[-1], np.inf, np.float32)
    high = np.full(shape[-1], -np.inf, np.float32)
    with open(scratch, 'wb') as file:
        for batch in batches:
            rows = batch.reshape(-1, shape[-1])
            low = np.minimum(low, rows.min(0, initial=np.inf))
            high = np.maximum(high, rows.max(0, initial=-np.inf))
            file.write(np.ascontiguousarray(batch, np.float32).data)
    if not np.isfinite(low).all():  # No examples.
        low, high = np.zeros_like(low), np.zeros_like(high)
    step = np.where(high > low, (high - low) / np.float32(255), np.float32(1))

    def steps():
        size = _ROWS_OF_A_BLOCK * int(np.prod(shape[1:]))
        with open(scratch, 'rb') as file:
            while len(values := np.fromfile(file, np.float32, size)):
                block = values.reshape(-1, *shape[1:])
                yield np.clip(np.rint((block - low) / step), 0, 255).astype(np.uint8)

    return steps(), low.tobytes() + step.tobytes()


def open_file(path: pathlib.Path) -> tuple[np.ndarray, bytes, dict]:
    """Returns the stored array, what reading it takes, and its description.

    Raises:
      BrokenError: The file is cut short or of another version of the format.
      OSError: It cannot be read.
    """
    try:
        stored = np.lib.format.open_memmap(path, mode='r')
    except OSError:
        raise
    except Exception as error:  # NumPy reads the header as Python.
        raise BrokenError(one_line(error)) from error
    if str(stored.dtype) not in DTYPES or not stored.flags.c_contiguous:
        raise BrokenError('its header is another')
    with open(path, 'rb') as file:
        file.seek(stored.offset + stored.nbytes)
        after = file.read()
    end = len(after) - _CHECKSUM_BYTES - _LENGTH.size
    length = _LENGTH.unpack(after[end:-_CHECKSUM_BYTES])[0] if end >= 0 else -1
    if not 0 <= length <= end:
        raise BrokenError('it is cut short or of an older version')
    try:
        what = json.loads(after[end - length : end])
    except ValueError as error:
        raise BrokenError('its description is broken') from error
    form = {'shape': list(stored.shape), 'dtype': stored.dtype.name}
    if not isinstance(what, dict) or {key: what.get(key) for key in form} != form:
        raise BrokenError('its description is another')
    return stored, after[: end - length], what


def readable(stored: np.ndarray, scales: bytes) -> np.ndarray | Compact:
    """Returns what gives the features as float32, of `open_file`'s first two."""
    if stored.dtype == np.float32:
        return stored
    if stored.dtype != np.uint8:
        return Compact(stored)
    low, step = np.frombuffer(scales, np.float32).reshape(2, -1)
    return Compact(stored, low, step)


def is_unchanged(path: pathlib.Path, stored: np.ndarray) -> bool:
    """Returns whether an open file's checksum is that of its content."""
    digest = hashlib.sha256(stored.data)
    with open(path, 'rb') as file:
        file.seek(stored.offset + stored.nbytes)
        after = file.read()
    digest.update(after[:-_CHECKSUM_BYTES])
    return digest.digest() == after[-_CHECKSUM_BYTES:]

"""Values that lie in files: path and rows travel, not what is in them."""

import functools
import hashlib
import io
import mmap
import os
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ray import cloudpickle

from tff_transfer.data.rows import PreparedRows, Rows

Reaches = Callable[[Sequence[np.memmap]], bool]
# How many blocks of a file are looked at to tell it from another.
_BLOCKS, _BYTES = 64, 4096


class Late:
    """Rows of values that lie in files; what is unpickled reads them itself."""

    def __init__(self, values: np.memmap | Rows | PreparedRows, first: int, last: int):
        """Takes some rows of an array or of rows.

        Args:
          values: They lie in memory-mapped files (`rows.files_of`).
          first: The first row.
          last: The one after the last.
        """
        lazy = isinstance(values, Rows | PreparedRows)
        rows = values.between(first, last) if lazy else values[first:last]
        buffer = io.BytesIO()
        _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(rows)
        self._described = buffer.getvalue()

    @property
    def nbytes(self) -> int:
        """How many bytes travel."""
        return len(self._described)

    def __reduce__(self):
        return pickle.loads, (self._described,)


class _Pickler(cloudpickle.Pickler):
    """Has paths and places stand for what is mapped."""

    def reducer_override(self, obj: Any):
        if isinstance(obj, np.memmap) and obj._mmap is not None:
            path = str(obj.filename)
            place = obj.dtype.str, obj.shape, _offset(obj)
            return _mapped, (path, mark(path), *place)
        return super().reducer_override(obj)


def _offset(array: np.memmap) -> int:
    """Returns where in its file a contiguous array starts, bytes.

    A slice has the offset that the whole array was opened with.
    """
    first = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY
    memory = np.frombuffer(array._mmap, np.uint8)
    return first + array.ctypes.data - memory.ctypes.data


@functools.lru_cache(64)
def _mapped(
    path: str, _: str, dtype: str, shape: tuple[int, ...], offset: int
) -> np.ndarray:
    """Returns what lies there; another file of that path is opened anew."""
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, 'r', offset, shape)


def mark(path: str) -> str | None:
    """Returns what tells a file from another: its size and a hash of parts of it.

    None if it cannot be read.
    """
    try:
        stat = os.stat(path)
        return _mark(path, stat.st_size, stat.st_mtime_ns)
    except OSError:
        return None


@functools.lru_cache(256)
def _mark(path: str, size: int, _: int) -> str:
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for start in np.linspace(0, max(size - _BYTES, 0), _BLOCKS).astype(int):
            file.seek(start)
            digest.update(file.read(_BYTES))
    return f'{size} {digest.hexdigest()}'

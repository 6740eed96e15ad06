"""Denormal numbers are 0 in TensorFlow's own threads; here it is so in any thread."""

import contextlib
import ctypes
import pathlib
from collections.abc import Iterator

import tensorflow as tf

# Constructor and destructor of `tsl::port::ScopedFlushDenormal`, which TensorFlow has
# in each thread of its pools. An object has two bytes.
_LIBRARY = ctypes.PyDLL(
    str(pathlib.Path(tf.sysconfig.get_lib()) / 'libtensorflow_framework.so.2')
)
_FLUSH = _LIBRARY._ZN3tsl4port19ScopedFlushDenormalC1Ev
_RESTORE = _LIBRARY._ZN3tsl4port31ScopedRestoreFlushDenormalStateD1Ev
_FLUSH.argtypes = _RESTORE.argtypes = [ctypes.c_void_p]
_FLUSH.restype = _RESTORE.restype = None
_BYTES = 8


@contextlib.contextmanager
def flushed() -> Iterator[None]:
    """Has this thread take denormal numbers for 0, and then as it did before."""
    scope = ctypes.create_string_buffer(_BYTES)
    _FLUSH(scope)
    try:
        yield
    finally:
        _RESTORE(scope)

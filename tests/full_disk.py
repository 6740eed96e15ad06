"""A disk that is full, for tests of what is written."""

import contextlib
import resource
import signal


@contextlib.contextmanager
def room_for(size):
    """Has every file of more bytes refused, as by a full disk.

    pytest's own output too, where that goes to a file: so for a part of a test, never
    for the whole of one.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)

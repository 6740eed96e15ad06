"""Standard output that is not read to its end, as by `head`."""

import contextlib
import os
import sys
from collections.abc import Iterator

# What a shell reports of a program that SIGPIPE ended.
_EXIT_CODE = 128 + 13


@contextlib.contextmanager
def may_close() -> Iterator[None]:
    """Ends the program quietly where standard output was closed before its end."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer is written, in vain, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_EXIT_CODE)

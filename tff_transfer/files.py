"""Files that are whole or absent: written to a temporary name, then renamed."""

import contextlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator

_SCRATCH = re.compile(r'\.(.+)-[a-z0-9_]{8}\.part')


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Gives a temporary path that takes the place of `path` if the block succeeds.

    The block may make a file or a folder there. What stood at `path` before stays
    until the last moment, and stays for good if the block raises.

    Args:
      path: The file or folder to write; its parents are made.

    Yields:
      A path beside `path` at which nothing exists.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = pathlib.Path(
        tempfile.mkdtemp(prefix=f'.{path.name}-', suffix='.part', dir=path.parent)
    )
    try:
        new = scratch / path.name
        yield new
        if new.is_file():
            with open(new, 'rb') as file:
                os.fsync(file.fileno())
        if path.is_dir() and new.is_dir():
            os.rename(path, scratch / 'old')
        os.replace(new, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Removes what `replacing` left in a folder when its process was killed.

    What it had just moved aside, to put a new folder in its place, goes back.

    Args:
      folder: A folder into which no other process writes.
    """
    for scratch in pathlib.Path(folder).glob('.*.part'):
        name = _SCRATCH.fullmatch(scratch.name)
        if name is None or not scratch.is_dir():
            continue
        if (scratch / 'old').exists() and not (scratch.parent / name[1]).exists():
            os.rename(scratch / 'old', scratch.parent / name[1])
        shutil.rmtree(scratch, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    r"""Writes `text` to `path`, whole or not at all.

    What UTF-8 cannot hold, as in the name of another file, is written `\udce9`.
    """
    with replacing(path) as new:
        new.write_text(text, encoding='utf-8', errors='backslashreplace')


def cache_dir() -> pathlib.Path:
    """Returns the folder for caches: `$TFF_TRANSFER_CACHE_DIR` or the user's own."""
    named = os.environ.get('TFF_TRANSFER_CACHE_DIR')
    if named:
        return pathlib.Path(named)
    home = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
    return pathlib.Path(home) / 'tff_transfer'

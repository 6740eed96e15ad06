"""Features on disk: each computed once, shared by runs, listed, verified, pruned.

python -m tff_transfer.features.cache list
python -m tff_transfer.features.cache verify
python -m tff_transfer.features.cache prune --unused_days=30 --max_gigabytes=5
"""

import argparse
import contextlib
import dataclasses
import fcntl
import hashlib
import os
import pathlib
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from absl import logging

from tff_transfer import files, pipes
from tff_transfer.errors import UserError
from tff_transfer.features import file_format

_FORMAT = 'features 2'


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file of the cache.

    Attributes:
      path: Where it is.
      bytes: Its size.
      last_used: When it was made or last read, in seconds since 1970.
      what: `backbone` and `data` by name, `shape` and `dtype`; None for a file
        that is cut short or of another version of the format.
    """

    path: pathlib.Path
    bytes: int
    last_used: float
    what: Mapping | None


def folder_of(cache_dir: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """Returns where the features of a folder of caches stand."""
    return pathlib.Path(cache_dir or files.cache_dir()) / 'features'


def get_or_make(
    key: str,
    shape: tuple[int, ...],
    batches: Callable[[], Iterator[np.ndarray]],
    *,
    dtype: str = 'float32',
    what: Mapping[str, str],
    cache_dir: str | os.PathLike[str] | None = None,
) -> np.ndarray | file_format.Compact:
    """Returns features from the cache, or makes and stores them.

    One `.npy` file for each key and dtype, with what reading them takes, their
    description and a SHA-256 after the array's end. Another process that wants the
    same features waits for the first one. Work that is interrupted leaves no file
    and starts again.

    Args:
      key: What the features are a function of.
      shape: Theirs, [n, ..., size].
      batches: Gives them in order, float32 [batch, ..., size].
      dtype: How they are kept, one of `file_format.DTYPES`: uint8 divides the
        range of each feature (of the last axis) into 255 equal steps.
      what: Names for `entries`.
      cache_dir: The folder of all caches; `files.cache_dir()` if not given.

    Returns:
      float32 [n, ..., size], memory-mapped and read-only, or the same as a
      `file_format.Compact`.

    Raises:
      UserError: The cache cannot be written, or float16 cannot hold the features.
    """
    folder = folder_of(cache_dir)
    name = hashlib.sha256(f'{_FORMAT} {dtype} {key}'.encode()).hexdigest()
    path = folder / f'{name}.npy'
    what = {**what, 'shape': list(shape), 'dtype': dtype}
    found = _read(path, shape, dtype)
    if found is not None:
        return found
    try:
        with _only_process(path):
            found = _read(path, shape, dtype)  # Made by another one meanwhile?
            if found is None:
                file_format.write(path, shape, dtype, what, batches())
                found = file_format.readable(*file_format.open_file(path)[:2])
    except OSError as error:
        megabytes = file_format.bytes_of(shape, dtype) / 1e6
        raise UserError(
            f'the features ({megabytes:.0f} MB) cannot be written to the cache'
            f' {folder} ({error.strerror or error}); name a folder with more room or'
            ' with the right to write in TFF_TRANSFER_CACHE_DIR'
        ) from error
    return found


def _read(path, shape, dtype: str) -> np.ndarray | file_format.Compact | None:
    """Returns the features of a whole and unchanged file, else None."""
    try:
        if not path.exists():
            return None
        stored, scales, _ = file_format.open_file(path)
        if stored.shape != shape or stored.dtype != dtype:
            raise file_format.BrokenError('its shape is another')
        if not file_format.is_unchanged(path, stored):
            raise file_format.BrokenError('its checksum is another')
    except (OSError, file_format.BrokenError) as error:
        logging.warning('The features in %s are broken: %s', path, error)
        return None
    with contextlib.suppress(OSError):  # A cache that may only be read serves too.
        os.utime(path)
    return file_format.readable(stored, scales)


@contextlib.contextmanager
def _only_process(path: pathlib.Path) -> Iterator[None]:
    """Lets one process at a time into the block; the system frees a killed one's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix('.lock'), 'w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.warning('Waiting for another process that extracts these features')
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def entries(cache_dir: str | os.PathLike[str] | None = None) -> list[Entry]:
    """Returns what is in the cache, the least recently used first."""
    found = []
    for path in folder_of(cache_dir).glob('*.npy'):
        with contextlib.suppress(FileNotFoundError):  # Removed meanwhile.
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                continue
            try:
                what = file_format.open_file(path)[2]
            except file_format.BrokenError:
                what = None
            found.append(Entry(path, status.st_size, status.st_mtime, what))
    return sorted(found, key=lambda entry: (entry.last_used, entry.path))


def is_whole(entry: Entry) -> bool:
    """Returns whether a file is whole and unchanged, by its SHA-256."""
    try:
        stored, *_ = file_format.open_file(entry.path)
        return file_format.is_unchanged(entry.path, stored)
    except file_format.BrokenError:
        return False


def prune(
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    unused_days: float | None = None,
    max_bytes: float | None = None,
) -> list[Entry]:
    """Removes broken files, those unused for long, and the oldest of too many.

    A file that is being written stays; a process that has one open keeps it.

    Args:
      cache_dir: The folder of all caches; `files.cache_dir()` if not given.
      unused_days: Files not used for so many days go.
      max_bytes: The least recently used go until so many bytes are left.

    Returns:
      What was removed.
    """
    removed, kept = [], []
    oldest = -np.inf if unused_days is None else time.time() - 86400 * unused_days
    for entry in entries(cache_dir):
        gone = entry.last_used < oldest or not is_whole(entry)
        (removed if gone else kept).append(entry)
    size = sum(entry.bytes for entry in kept)
    while max_bytes is not None and size > max_bytes:
        size -= kept[0].bytes
        removed.append(kept.pop(0))
    for entry in removed:
        entry.path.unlink(missing_ok=True)
    _remove_leftovers(folder_of(cache_dir))
    return removed


def _remove_leftovers(folder: pathlib.Path) -> None:
    """Removes what killed processes left, and locks without a file."""
    for path in folder.glob('*.lock'):
        with open(path) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            for left in folder.glob(f'.{path.stem}.npy-*'):
                shutil.rmtree(left, ignore_errors=True)
            if not path.with_suffix('.npy').exists():
                path.unlink(missing_ok=True)


def _described(entry: Entry) -> str:
    day = time.strftime('%Y-%m-%d %H:%M', time.localtime(entry.last_used))
    if entry.what is None:
        text = 'cut short, or of another version'
    else:
        shape = ' x '.join(map(str, entry.what['shape']))
        of, by = entry.what.get('data'), entry.what.get('backbone')
        text = f'{entry.what["dtype"]} {shape}  {of} by {by}'
    return f'{entry.bytes / 1e6:10.1f} MB  {day}  {text}'


def main(arguments: list[str] | None = None) -> int:
    """Lists, verifies or prunes.

    Returns:
      The exit code: 1 for a broken file, 2 if the user must mend something, else 0.
    """
    parser = argparse.ArgumentParser(
        prog='python -m tff_transfer.features.cache',
        description='Looks after the cache of features.',
    )
    parser.add_argument('--cache_dir', help='the folder of all caches')
    commands = parser.add_subparsers(dest='command', required=True)
    commands.add_parser('list', help='sizes, days of last use, and what they are of')
    commands.add_parser('verify', help='compares each file with its checksum')
    pruning = commands.add_parser(
        'prune', help='removes broken files, and those that the options name'
    )
    pruning.add_argument(
        '--unused_days', type=_amount, help='remove what was not used for so long'
    )
    pruning.add_argument(
        '--max_gigabytes', type=_amount, help='remove the least recently used of more'
    )
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except OSError as error:
        print(
            f'error: {error.filename}: {error.strerror}; name a cache that may be read'
            ' and written with --cache_dir',
            file=sys.stderr,
        )
        return 2


def _amount(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f'{text} is below 0')
    return value


def _run(options: argparse.Namespace) -> int:
    """Does what the command line asks for; returns the exit code."""
    if options.command == 'prune':
        limit = options.max_gigabytes
        shown = prune(
            options.cache_dir,
            unused_days=options.unused_days,
            max_bytes=None if limit is None else limit * 1e9,
        )
    else:
        shown = entries(options.cache_dir)
    broken = 0
    for entry in shown:
        verdict = ''
        if options.command == 'verify':
            whole = is_whole(entry)
            verdict = 'whole   ' if whole else 'broken  '
            broken += not whole
        print(verdict + _described(entry))
    total = sum(entry.bytes for entry in shown) / 1e6
    done = {'list': '', 'verify': f', {broken} broken', 'prune': ' removed'}
    print(
        f'{len(shown)} files, {total:.1f} MB{done[options.command]}, in'
        f' {folder_of(options.cache_dir)}'
    )
    return 1 if broken else 0


if __name__ == '__main__':
    with pipes.may_close():
        sys.exit(main())

"""Federated EMNIST: TFF's own download and cache, read in bulk.

Caldas et al., "LEAF: A Benchmark for Federated Settings", arXiv:1812.01097;
`tff.simulation.datasets.emnist`.
"""

import contextlib
import dataclasses
import lzma
import os
import pathlib
import shutil
import socket
import string
import threading
import urllib.request
from collections.abc import Iterator

import tensorflow_federated as tff

from tff_transfer import files
from tff_transfer.data import sqlite
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError

_FILE = 'emnist_all.sqlite'
_ORIGIN = f'https://storage.googleapis.com/tff-datasets-public/{_FILE}.lzma'
# As documented by `tff.simulation.datasets.emnist.load_data`.
_CLIENTS = {'digits_only_': 3_383, 'all_': 3_400}
_EXAMPLES = {'digits_only_': (341_873, 40_832), 'all_': (671_585, 77_483)}
_CLASS_NAMES = tuple(string.digits + string.ascii_uppercase + string.ascii_lowercase)
_PROBE_SECONDS = 5
_STALL_SECONDS = 30


def load(
    only_digits: bool = True,
    cache_dir: str | os.PathLike[str] | None = None,
    *,
    path: str | os.PathLike[str] | None = None,
) -> FederatedData:
    """Loads federated EMNIST, handwritten characters by writer.

    The database is the one that TFF downloads (170 MB, 4 GB when unpacked) and keeps
    in `cache_dir`; one that stands there already is used. It is checked before use:
    TFF itself takes a truncated one for whole.

    Args:
      only_digits: The ten digits (3,383 writers), or all 62 characters (3,400).
      cache_dir: Where TFF keeps the database; `~/.tff`, as in TFF, if not given.
      path: A local `emnist_all.sqlite`, `emnist_all.sqlite.lzma` or the folder of
        one; then nothing is downloaded.

    Returns:
      Images uint8 [n, 28, 28, 1] in TFF's polarity: the background is 255, ink 0.
      Each writer's train/test split is TFF's own.

    Raises:
      UserError: The file is truncated, damaged or another one; or there is none and
        it cannot be downloaded, which is found out within seconds.
    """
    database = _local(path) if path is not None else _downloaded(cache_dir)
    prefix = 'digits_only_' if only_digits else 'all_'
    found = sqlite.splits(database)
    clients = tuple(found.get(f'{prefix}{part}', 0) for part in ('train', 'test'))
    if clients != (_CLIENTS[prefix],) * 2:
        raise _not_emnist(
            database, f'{clients[0]:,} and {clients[1]:,} writers with training and'
            f' test examples in place of {_CLIENTS[prefix]:,}'
        )  # fmt: skip
    classes = 10 if only_digits else 62
    data = sqlite.read(
        database,
        name=f'federated EMNIST {"digits" if only_digits else "characters"}',
        prefix=prefix,
        num_classes=classes,
    )
    examples = (int(data.num_train.sum()), int(data.num_test.sum()))
    if examples != _EXAMPLES[prefix]:
        raise _not_emnist(
            database, f'{examples} in place of {_EXAMPLES[prefix]} examples'
        )
    return dataclasses.replace(data, class_names=_CLASS_NAMES[:classes])


def _not_emnist(database: pathlib.Path, difference: str) -> UserError:
    return UserError(
        f'{database}: is not federated EMNIST: it has {difference}; delete it to have'
        ' it downloaded again, or read data of your own with by_client'
    )


def _local(path: str | os.PathLike[str]) -> pathlib.Path:
    """Returns the database at a path that the user named, unpacked if need be."""
    path = pathlib.Path(path)
    if path.is_dir():
        found = [path / name for name in (_FILE, f'{_FILE}.lzma')]
        found = [file for file in found if file.exists()]
        if not found:
            raise UserError(f'{path}: holds no {_FILE} and no {_FILE}.lzma')
        path = found[0]
    if path.suffix != '.lzma':
        return path
    unpacked = path.with_suffix('')
    if not unpacked.exists():
        try:
            with (
                files.replacing(unpacked) as new,
                lzma.open(path) as packed,
                open(new, 'wb') as file,
            ):
                shutil.copyfileobj(packed, file, 1 << 20)
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise UserError(
                f'{path}: cannot be unpacked: {error}; get it again from {_ORIGIN}'
            ) from error
    return unpacked


def _downloaded(cache_dir: str | os.PathLike[str] | None) -> pathlib.Path:
    """Returns the database in TFF's cache; if there is none, TFF downloads it."""
    folder = pathlib.Path(cache_dir) if cache_dir else pathlib.Path.home() / '.tff'
    database = folder / _FILE
    if database.exists():
        return database
    _probe(database)
    try:
        with files.replacing(database) as new, _stall_timeout(_STALL_SECONDS):
            tff.simulation.datasets.emnist.load_data(cache_dir=str(new.parent))
            sqlite.splits(new)
    # urllib, lzma, SQLite and TFF each have errors of their own for it.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f'{database}: the download from {_ORIGIN} failed: {reason}; try again, or'
            ' give the path of a copy'
        ) from error
    return database


def _probe(database: pathlib.Path) -> None:
    """Raises within seconds if the server cannot be reached."""
    failure: list[BaseException] = []

    def ask():
        try:
            request = urllib.request.Request(_ORIGIN, method='HEAD')
            with urllib.request.urlopen(request, timeout=_PROBE_SECONDS):
                pass
        except OSError as error:
            failure.append(getattr(error, 'reason', error))

    # A thread, since no timeout ends the look-up of a name.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS + 1)
    if thread.is_alive() or failure:
        reason = failure[0] if failure else f'no answer in {_PROBE_SECONDS} s'
        raise UserError(
            f'federated EMNIST is not in {database.parent} and {_ORIGIN} cannot be'
            f' reached ({reason}); give the path of a copy of {_FILE}, your own data'
            ' (by_client), or use synthetic writers'
        )


@contextlib.contextmanager
def _stall_timeout(seconds: float) -> Iterator[None]:
    """Ends a download that stands still; TFF's own sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)

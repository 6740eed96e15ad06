"""Client data in TensorFlow Federated's SQLite schema, read in bulk and written.

The schema is that of `tff.simulation.datasets.SqlClientData`: a table `examples`
(split_name, client_id, serialized_example_proto) and a table `client_metadata`
(client_id, split_name, num_examples). What TFF's schema cannot say (the shape of an
image, the class names) stands in a third table, which TFF ignores: see
`sqlite_metadata`.
"""

import collections
import contextlib
import os
import pathlib
import sqlite3
from collections.abc import Iterator

import numpy as np
from absl import logging

from tff_transfer import files, progress
from tff_transfer.data import examples, federated, sqlite_metadata
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError, one_line

_SCHEMA = """
CREATE TABLE examples (
  split_name TEXT NOT NULL,
  client_id TEXT NOT NULL,
  serialized_example_proto BLOB NOT NULL);
CREATE TABLE client_metadata (
  client_id TEXT NOT NULL,
  split_name TEXT NOT NULL,
  num_examples INTEGER NOT NULL);
"""
# Without it, TFF reads the whole table for each client.
_INDEX = 'CREATE INDEX examples_of_client ON examples (client_id, split_name)'
_REQUIRED = {
    'examples': {'split_name', 'client_id', 'serialized_example_proto'},
    'client_metadata': {'split_name', 'client_id', 'num_examples'},
}
_BLOCK = 4096


def write(data: FederatedData, path: str | os.PathLike[str]) -> None:
    """Writes data to an SQLite database that TFF's own readers accept.

    Each example is a `tf.train.Example` with the features `pixels`, floats, and
    `label`, one integer. Grey images of 28 x 28 get the splits of federated EMNIST:
    `all_train` and `all_test`, and their digits (labels 0 to 9) once more as
    `digits_only_train` and `digits_only_test`. A database of these that is named
    `emnist_all.sqlite` is thus read by `tff.simulation.datasets.emnist.load_data`
    with its folder as `cache_dir`. Other data get the splits `train` and `test`, for
    `tff.simulation.datasets.load_and_parse_sql_client_data`.

    Args:
      data: What to write; uint8 images are written as floats in [0, 1], 255ths, with
        the polarity that they have (federated EMNIST's own is dark ink, 0, on 1).
        Clients without any example are left out.
      path: The file, which is replaced if it exists.

    Raises:
      UserError: A client's name holds a single quote, on which TFF's queries fail, or
        the file cannot be written; then nothing is left of it.
    """
    for client_id in data.client_ids:
        if "'" in client_id:
            raise UserError(
                f'{path}: TFF cannot read the client id {client_id!r}; rename it so'
                ' that it holds no single quote'
            )
    try:
        with files.replacing(path) as new, _connected(new) as connection:
            connection.executescript(_SCHEMA)
            _fill(connection, data)
            connection.execute(_INDEX)
            connection.commit()
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f'{path}: cannot be written: {error}; choose another place or make room'
        ) from error


def _fill(connection: sqlite3.Connection, data: FederatedData) -> None:
    """Writes all examples and what the schema cannot say."""
    as_emnist = data.x.shape[1:] == (28, 28, 1)
    prefix = 'all_' if as_emnist else ''
    checksums = collections.Counter()
    for client in progress.bar(range(len(data)), desc='writing', unit='client'):
        for part, rows in (
            ('train', data.train_rows(client)),
            ('test', data.test_rows(client)),
        ):
            protos = examples.serialize(data.x[rows], data.y[rows])
            by_split = {f'{prefix}{part}': protos}
            if as_emnist:
                digits = np.flatnonzero(data.y[rows] < 10)
                by_split[f'digits_only_{part}'] = [protos[i] for i in digits]
            for split, mine in by_split.items():
                checksums += _insert(connection, split, data.client_ids[client], mine)
    sqlite_metadata.write(connection, data, checksums)


def _insert(
    connection: sqlite3.Connection, split: str, client_id: str, protos: list[bytes]
) -> collections.Counter[str]:
    """Adds one client's examples; a client without any is not in the split."""
    rows = [(split, client_id, proto) for proto in protos]
    if rows:
        connection.executemany('INSERT INTO examples VALUES (?, ?, ?)', rows)
        connection.execute(
            'INSERT INTO client_metadata VALUES (?, ?, ?)',
            (client_id, split, len(protos)),
        )
    return sqlite_metadata.row_sums(rows)


def splits(path: str | os.PathLike[str]) -> dict[str, int]:
    """Checks that a file is a whole database in TFF's schema.

    SQLite itself notices a truncated database only when it comes to a missing page;
    here its size is compared with what its header says.

    Args:
      path: The database.

    Returns:
      The number of clients of each split, by its name.

    Raises:
      UserError: The file is absent, truncated, damaged or something else.
    """
    path = pathlib.Path(path)
    try:
        with open(path, 'rb') as file:
            header = file.read(100)
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    if len(header) < 100 or not header.startswith(b'SQLite format 3\0'):
        raise UserError(
            f'{path}: is not an SQLite database ({size} bytes); delete it, or give'
            ' the right file'
        )
    page = int.from_bytes(header[16:18], 'big')
    pages = int.from_bytes(header[28:32], 'big')
    # 1 stands for 65,536; the count holds if the two change counters agree.
    page = 65536 if page == 1 else page
    if header[24:28] == header[92:96] and size < page * pages:
        raise UserError(
            f'{path}: is truncated ({size} of {page * pages} bytes); delete it and'
            ' get it again'
        )
    with _opened(path) as connection:
        for table, required in _REQUIRED.items():
            columns = {
                row[1] for row in connection.execute(f'PRAGMA table_info({table})')
            }
            if not required <= columns:
                raise UserError(
                    f"{path}: is not in TFF's schema: the table {table} lacks"
                    f' {", ".join(sorted(required - columns))}; give a database that'
                    ' TFF or `python -m tff_transfer.data.convert` wrote'
                )
        return dict(
            connection.execute(
                'SELECT split_name, COUNT(DISTINCT client_id) FROM client_metadata'
                ' GROUP BY split_name'
            )
        )


def read(
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    prefix: str | None = None,
    test_fraction: float = 0.1,
    split_seed: int = 0,
    num_classes: int | None = None,
) -> FederatedData:
    """Reads a database in TFF's schema, all examples at once.

    TFF makes a `tf.data` pipeline and a query for each client; here the table is
    read once and parsed in blocks.

    Args:
      path: The database.
      name: What the data are; the file's name if not given.
      prefix: The splits are `<prefix>train` and `<prefix>test`. If not given, the
        database must have one such pair, or federated EMNIST's, of which `all_` is
        read, or no name that ends with `train` or `test`: then all of it is read and
        a test share drawn.
      test_fraction: That share.
      split_seed: The seed of that draw.
      num_classes: How many labels there are; if not given, what the database says,
        or the largest label + 1.

    Returns:
      The data. Floats that are 255ths become uint8; TFF's polarity is kept.

    Raises:
      UserError: The database is truncated, damaged, empty or something else.
    """
    path = pathlib.Path(path)
    name = name or path.name
    found = splits(path)
    prefix = _only_prefix(path, found) if prefix is None else prefix
    parts = [] if prefix is None else [f'{prefix}train', f'{prefix}test']
    if parts and not found.keys() & set(parts):
        raise UserError(
            f'{path}: has no split {parts[0]}, but {", ".join(sorted(found)) or "none"}'
        )
    with _opened(path) as connection:
        metadata = sqlite_metadata.read(path, connection)
        if 'checksums' not in metadata:
            _check_structure(path, connection)
        blocks = list(_blocks(connection, path, parts, metadata))
    if not blocks:
        raise UserError(f'{path}: holds no examples; give a database that has some')
    clients, is_test, x, y = (list(column) for column in zip(*blocks, strict=True))
    exact = all(part.dtype == np.uint8 for part in x)
    if not exact or metadata.get('dtype') == 'float32':
        x = [examples.as_float(part) for part in x]
    return federated.from_rows(
        name,
        np.concatenate(x),
        np.concatenate(y),
        np.concatenate(clients),
        num_classes=num_classes or metadata.get('num_classes'),
        class_names=metadata.get('class_names', ())[:num_classes],
        is_test=np.concatenate(is_test) if prefix is not None else None,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )


def _only_prefix(path: pathlib.Path, found: dict[str, int]) -> str | None:
    """Returns what stands before `train` in the splits' names; None for no split."""
    prefixes = {
        split.removesuffix(part)
        for split in found
        for part in ('train', 'test')
        if split and split.endswith(part)
    }
    if prefixes == {'all_', 'digits_only_'}:
        return 'all_'
    if len(prefixes) > 1:
        raise UserError(
            f'{path}: holds several data sets ({", ".join(sorted(found))}); keep one'
            ' pair of splits'
        )
    return prefixes.pop() if prefixes else None


def _check_structure(path: pathlib.Path, connection: sqlite3.Connection) -> None:
    """Raises if rows may be lost, as far as SQLite itself can tell."""
    (found,) = connection.execute('PRAGMA quick_check(1)').fetchone()
    if found != 'ok':
        raise _damaged(path, one_line(sqlite3.DatabaseError(found)))


def _damaged(path: pathlib.Path, reason: str) -> UserError:
    return UserError(
        f'{path}: cannot be read as an SQLite database: {reason}; delete it and get it'
        ' again'
    )


def _blocks(
    connection: sqlite3.Connection,
    path: pathlib.Path,
    parts: list[str],
    metadata: dict,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Gives client ids, which rows are test examples, inputs and labels in blocks."""
    # One pass: rows lie on disk in the order written, whatever their split.
    where = 'WHERE split_name IN (?, ?)' if parts else ''
    (rows,) = connection.execute(
        f'SELECT SUM(num_examples) FROM client_metadata {where}', parts
    ).fetchone()
    cursor = connection.execute(
        f'SELECT split_name, client_id, serialized_example_proto FROM examples {where}',
        parts,
    )
    parse = None
    expected = metadata.get('checksums', {})
    checksums, count = collections.Counter(), 0
    with progress.bar(total=rows, desc=f'reading {path.name}', unit='example') as bar:
        while block := cursor.fetchmany(_BLOCK):
            names, clients, protos = zip(*block, strict=True)
            _check_kinds(path, block)
            if expected:
                checksums += sqlite_metadata.row_sums(block)
            count += len(block)
            parse = parse or examples.parser(path, protos[0], metadata.get('shape'))
            is_test = np.array([name in parts[1:] for name in names])
            yield np.array(clients, str), is_test, *parse(protos)
            bar.update(len(block))
    if count and any(checksums[p] != expected.get(p, 0) for p in expected and parts):
        raise _damaged(path, 'its examples are not those that were written')
    if count != rows:
        logging.warning('%s: has %s examples, not %s as it says', path, count, rows)


def _check_kinds(path: pathlib.Path, block: list[tuple]) -> None:
    """Raises if a row is not a split's name, a client id and an example."""
    for split, client_id, proto in block:
        if not isinstance(client_id, str) or not isinstance(split, str | None):
            raise UserError(
                f'{path}: the client id {client_id!r} or split {split!r} is no text, as'
                ' which TFF reads them; write it as TEXT'
            )
        if not isinstance(proto, bytes):
            raise examples.bad_example(path)


@contextlib.contextmanager
def _connected(path: pathlib.Path) -> Iterator[sqlite3.Connection]:
    """Opens a new database; it is closed before `files.replacing` moves the file."""
    connection = sqlite3.connect(path)
    try:
        # The file is replaced whole, so that a journal would guard nothing.
        connection.execute('PRAGMA journal_mode = OFF')
        connection.execute('PRAGMA synchronous = OFF')
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[sqlite3.Connection]:
    """Opens a database to read; what SQLite finds wrong with it is a `UserError`."""
    try:
        connection = sqlite3.connect(f'{path.absolute().as_uri()}?mode=ro', uri=True)
        try:
            yield connection
        finally:
            connection.close()
    # The second is of names in the schema.
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _damaged(path, one_line(error)) from error

"""What TFF's SQLite schema cannot say, and whether a database is as it was written.

SQLite keeps no checksums: what has changed in a row is read as if it were written so.
Here each split's rows have one, a sum over them, so that their order is free.
"""

import collections
import json
import pathlib
import sqlite3
import zlib
from collections.abc import Iterable, Mapping

from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError

# 'tfft': says that there is metadata, should its table have been lost.
_APPLICATION_ID = 0x74666674
_SCHEMA = 'CREATE TABLE tff_transfer_metadata (json TEXT NOT NULL, crc32 INTEGER)'
_KINDS = {'name': str, 'shape': list, 'dtype': str, 'num_classes': int,
          'class_names': list, 'checksums': dict}  # fmt: skip


def row_sums(rows: Iterable[tuple[str, str, bytes]]) -> collections.Counter[str]:
    """Returns the checksum of each split of (split, client id, example) rows.

    Those of blocks of rows add up to that of all.
    """
    sums = collections.Counter()
    for split, client_id, proto in rows:
        sums[split] += zlib.crc32(proto, zlib.crc32(f'{split}\0{client_id}\0'.encode()))
    return sums


def write(
    connection: sqlite3.Connection, data: FederatedData, checksums: Mapping[str, int]
) -> None:
    """Adds the table of metadata.

    Args:
      connection: The new database.
      data: What it holds.
      checksums: The checksum of each split, see `row_sums`.
    """
    metadata = {
        'name': data.name,
        'shape': data.x.shape[1:],
        'dtype': data.x.dtype.name,
        'num_classes': int(data.num_classes),
        'class_names': data.class_names,
        'checksums': checksums,
    }
    text = json.dumps(metadata)
    connection.execute(f'PRAGMA application_id = {_APPLICATION_ID}')
    connection.execute(_SCHEMA)
    connection.execute(
        'INSERT INTO tff_transfer_metadata VALUES (?, ?)',
        [text, zlib.crc32(text.encode())],
    )


def read(path: pathlib.Path, connection: sqlite3.Connection) -> dict:
    """Returns what `write` noted, or nothing for a database of other origin.

    Raises:
      UserError: It is damaged, or not what `write` writes.
    """
    columns = connection.execute('PRAGMA table_info(tff_transfer_metadata)').fetchall()
    (application_id,) = connection.execute('PRAGMA application_id').fetchone()
    if not columns and application_id != _APPLICATION_ID:
        return {}
    try:
        # Earlier databases have the first column alone.
        row = connection.execute('SELECT * FROM tff_transfer_metadata').fetchone()
        text, *checksum = row
        metadata = json.loads(text)
        is_whole = checksum in ([], [zlib.crc32(text.encode())])
    except (sqlite3.Error, TypeError, AttributeError, ValueError, RecursionError):
        is_whole, metadata = False, None
    if not is_whole or not _is_of_its_kinds(metadata):
        raise UserError(
            f'{path}: its table tff_transfer_metadata is damaged; write the database'
            ' again with `python -m tff_transfer.data.convert`'
        )
    return metadata


def _is_of_its_kinds(metadata) -> bool:
    return (
        isinstance(metadata, dict)
        and all(isinstance(metadata.get(k, kind()), kind) for k, kind in _KINDS.items())
        and all(type(size) is int and size > 0 for size in metadata.get('shape', ()))
        and all(isinstance(name, str) for name in metadata.get('class_names', ()))
        and metadata.get('num_classes', 1) > 0
    )

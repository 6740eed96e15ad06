"""Examples by client in a CSV file: one row an example."""

import csv
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from tff_transfer.data import checks, federated, image_files, parts, table_columns
from tff_transfer.data.federated import FederatedData
from tff_transfer.data.table_columns import Columns
from tff_transfer.errors import UserError

_SEPARATORS = (',', ';', '\t', '|')
_DECIMAL_COMMA = re.compile(r'\s*[+-]?\d*,\d+\s*')


def read(
    path: str | os.PathLike[str],
    *,
    image_key: str | None = None,
    label_key: str | None = None,
    client_key: str | None = None,
    image_size: tuple[int, int] | None = None,
    test_fraction: float = 0.1,
    split_seed: int = 0,
) -> FederatedData:
    """Reads a CSV file; see `by_client.load` for its columns.

    The separator is the first of comma, semicolon, tab and `|` by which the header has
    a client and a label. Lines without any cell are passed over.

    Args:
      path: The file, UTF-8, with a header.
      image_key: The column of image paths, if it is not found out.
      label_key: The column of the labels.
      client_key: The column of the client ids.
      image_size: As in `image_files.read`.
      test_fraction: The share of test examples, where no column `split` has any.
      split_seed: The seed of that draw.

    Returns:
      The data.

    Raises:
      UserError: The file is unreadable, rows are of unlike length, cells are missing
        or not numbers, or it is not clear which column is which.
    """
    path = pathlib.Path(path)
    named = {'image': image_key, 'label': label_key, 'client': client_key}
    try:
        with open(path, encoding='utf-8-sig', newline='') as file:
            separator, header, columns = _find_columns(path, file, named)
            file.seek(0)
            rows = _rows(path, file, separator)
            next(rows)
            cells, x = _read_cells(path, header, columns, rows)
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f'{path}: is no CSV text in UTF-8 ({error}); save it as such'
        ) from error
    if not cells['label']:
        raise UserError(f'{path}: has a header but no examples; add rows')
    texts = {
        role: table_columns.texts(path, role, header[column], cells[role])
        for role, column in columns.roles.items()
    }
    y, class_names = checks.index_labels(texts['label'])
    if 'image' in texts:
        x = image_files.read(
            [path.parent / text for text in texts['image']], image_size=image_size
        )
    elif columns.image_shape:
        x = table_columns.images(np.stack(x).reshape(-1, *columns.image_shape))
    else:
        x = np.stack(x)
    return federated.from_rows(
        path.name,
        x,
        y,
        table_columns.clients(path, cells['client']),
        class_names=class_names,
        is_test=parts.is_test(path, texts['split']) if 'split' in texts else None,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )


def _rows(
    path: pathlib.Path, file: TextIO, separator: str
) -> Iterator[tuple[int, list[str]]]:
    """Gives each row that is not blank, with the number of the line it ends on."""
    # Strict, so that a quote that is never closed does not swallow what follows.
    rows = csv.reader(_lines(path, file), delimiter=separator, strict=True)
    for row in rows:
        if any(map(str.strip, row)):
            yield rows.line_num, row


def _lines(path: pathlib.Path, file: TextIO) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        if '\0' in line:
            raise UserError(
                f'{path}: line {number} holds a NUL character; the file is damaged, or'
                ' no CSV text in UTF-8'
            )
        yield line


def _find_columns(
    path: pathlib.Path, file: TextIO, named: Mapping[str, str | None]
) -> tuple[str, list[str], Columns]:
    """Returns the separator, the header and what its columns hold."""
    failures: list[tuple[int, Exception]] = []
    for separator in _SEPARATORS:
        file.seek(0)
        header: list[str] = []
        try:
            _, header = next(_rows(path, file, separator), (0, []))
            if not header:
                raise UserError(f'{path}: is empty; its first line must be a header')
            header = [cell.strip() for cell in header]
            return separator, header, table_columns.find(path, header, named)
        except (UserError, csv.Error) as error:
            failures.append((len(header), error))
    # What is wrong with the header as it falls into the most cells.
    raise max(failures, key=lambda failure: failure[0])[1]


def _read_cells(
    path: pathlib.Path,
    header: Sequence[str],
    columns: Columns,
    rows: Iterator[tuple[int, list[str]]],
) -> tuple[dict[Any, list[str]], list[np.ndarray]]:
    """Returns the cells of each role, and each row's numbers, float32."""
    # Those without a name stand under their numbers.
    wanted = {**columns.roles, **{column: column for column in columns.unnamed}}
    cells: dict[Any, list[str]] = {key: [] for key in wanted}
    numbers = []
    for line, row in rows:
        if len(row) != len(header):
            raise UserError(
                f'{path}: line {line} has {len(row)} cells, but the header has'
                f' {len(header)}; the file may be truncated'
            )
        for key, column in wanted.items():
            cells[key].append(row[column])
        if columns.numbers:
            values = [row[column] for column in columns.numbers]
            try:
                numbers.append(_floats(values))
            except ValueError as error:
                raise _no_number(path, line, header, columns, values) from error
    for column in columns.unnamed:
        table_columns.check_unnamed(path, column, cells[column])
    return cells, numbers


def _floats(cells: Sequence[str]) -> np.ndarray:
    """Returns cells as float32; `ValueError` if one is no number."""
    if '_' in ''.join(cells):
        raise ValueError('Python takes 1_000 for a number')
    with np.errstate(over='ignore'):
        return np.fromiter(map(float, cells), np.float32, len(cells))


def _is_number(cell: str) -> bool:
    try:
        return _floats([cell]).size == 1
    except ValueError:
        return False


def _no_number(
    path: pathlib.Path,
    line: int,
    header: Sequence[str],
    columns: Columns,
    cells: Sequence[str],
) -> UserError:
    """Returns the error that names the first of a row's cells that is no number."""
    column, cell = next(
        (column, cell)
        for column, cell in zip(columns.numbers, cells, strict=True)
        if not _is_number(cell)
    )
    remedy = (
        'mend it, or name the column of image paths with --image_key (image_key= in'
        ' Python)'
    )
    if _DECIMAL_COMMA.fullmatch(cell):
        remedy = 'write decimals with a point'
    return UserError(
        f'{path}: line {line} has {cell[:40]!r} in the column {header[column][:40]!r},'
        f' which should be a number; {remedy}'
    )

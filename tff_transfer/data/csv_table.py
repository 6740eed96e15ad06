"""Examples by client in a CSV file: one row an example."""

import csv
import os
import pathlib
import re

import numpy as np

from tff_transfer.data import checks, federated, image_files
from tff_transfer.data.examples import image_shape
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError

_NAMES = {
    'label': ('label', 'labels', 'class', 'target', 'y'),
    'client': ('client', 'client_id', 'user', 'user_id', 'writer', 'writer_id',
               'site', 'hospital', 'patient', 'subject'),
    'image': ('image', 'image_path', 'path', 'file', 'filename', 'file_name'),
    'split': ('split',),
}  # fmt: skip
_PIXEL = re.compile(r'(pixels?|px)[ _]?\d+|\d+x\d+', re.IGNORECASE)


def read(
    path: str | os.PathLike[str],
    *,
    image_key: str | None = None,
    label_key: str | None = None,
    client_key: str | None = None,
    test_fraction: float = 0.1,
    split_seed: int = 0,
) -> FederatedData:
    """Reads a CSV file; see `by_client.load` for its columns.

    Args:
      path: The file, UTF-8, cells separated by commas, with a header.
      image_key: The column of image paths, if it is not found out.
      label_key: The column of the labels.
      client_key: The column of the client ids.
      test_fraction: The share of test examples, where there is no column `split`.
      split_seed: The seed of that draw.

    Returns:
      The data.

    Raises:
      UserError: The file is unreadable, rows are of unlike length, cells are missing
        or not numbers, or it is not clear which column is which.
    """
    path = pathlib.Path(path)
    named = {'image': image_key, 'label': label_key, 'client': client_key}
    header, columns, cells = _read_text(path, named)
    for role in ('client', 'label', 'split'):
        if '' in cells.get(role, ()):
            row = cells[role].index('') + 1
            raise UserError(
                f'{path}: example {row} has no {role} (column'
                f' {header[columns[role]]!r}); fill it in or remove the row'
            )
    y, class_names = checks.index_labels(cells['label'])
    if 'image' in columns:
        x = image_files.read([path.parent / cell for cell in cells['image']])
    else:
        x = _read_numbers(path, header, set(columns.values()))
    return federated.from_rows(
        path.name,
        x,
        y,
        _clients(cells['client']),
        class_names=class_names,
        is_test=_is_test(path, cells['split']) if 'split' in cells else None,
        test_fraction=test_fraction,
        split_seed=split_seed,
    )


def _read_text(
    path: pathlib.Path, named: dict[str, str | None]
) -> tuple[list[str], dict[str, int], dict[str, list[str]]]:
    """Returns the header, the column of each role, and those columns' cells."""
    try:
        with open(path, encoding='utf-8-sig', newline='') as file:
            rows = csv.reader(file)
            header = [cell.strip() for cell in next(rows, [])]
            if not header:
                raise UserError(f'{path}: is empty; its first line must be a header')
            columns = _find_columns(path, header, named)
            cells: dict[str, list[str]] = {role: [] for role in columns}
            for row in rows:
                if not row:
                    continue
                if len(row) != len(header):
                    raise UserError(
                        f'{path}: line {rows.line_num} has {len(row)} cells, but the'
                        f' header has {len(header)}; the file may be truncated'
                    )
                for role, column in columns.items():
                    cells[role].append(row[column].strip())
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f'{path}: is no CSV text in UTF-8 ({error}); save it as such'
        ) from error
    if not cells['label']:
        raise UserError(f'{path}: has a header but no examples; add rows')
    return header, columns, cells


def _find_columns(
    path: pathlib.Path, header: list[str], named: dict[str, str | None]
) -> dict[str, int]:
    """Returns the column of client, label and perhaps image and split."""
    columns = {}
    for role, names in _NAMES.items():
        if named.get(role) is not None:
            names = (named[role],)
            found = [i for i, cell in enumerate(header) if cell in names]
        else:
            found = [i for i, cell in enumerate(header) if cell.lower() in names]
        if len(found) == 1:
            columns[role] = found[0]
        elif found or role in ('client', 'label') or named.get(role) is not None:
            shown = ', '.join(header[:6]) + (', ...' if len(header) > 6 else '')
            remedy = f'name it with {role}_key'
            if role == 'client':
                remedy += ', or deal the rows out with tff_transfer.data.partition'
            raise UserError(
                f'{path}: {len(found) or "no"} column(s) of the {role} among {shown};'
                f' {remedy}'
            )
    return columns


def _read_numbers(path: pathlib.Path, header: list[str], taken: set[int]) -> np.ndarray:
    """Returns the pixel columns as images, or all other columns as vectors."""
    pixels = [i for i, cell in enumerate(header) if _PIXEL.fullmatch(cell)]
    columns = pixels or [i for i in range(len(header)) if i not in taken]
    if not columns:
        raise UserError(
            f'{path}: has no column of image paths, pixels or other numbers; add some'
        )
    try:
        x = np.loadtxt(
            path,
            np.float32,
            comments=None,
            delimiter=',',
            skiprows=1,
            usecols=columns,
            ndmin=2,
            encoding='utf-8-sig',
            quotechar='"',
        )
    except ValueError as error:
        raise UserError(
            f'{path}: a cell that should be a number is not: {error}; mend it, or name'
            ' the column of image paths with image_key'
        ) from error
    if not pixels:
        return x
    shape = image_shape(len(columns))
    if len(shape) == 1:
        raise UserError(
            f'{path}: {len(columns)} pixel columns make no square grey or RGB image;'
            ' use .npz for other shapes'
        )
    x = x.reshape(-1, *shape)
    is_bytes = np.isfinite(x).all() and x.max() > 1 and (x == np.rint(x)).all()
    return x.astype(np.int64) if is_bytes else x


def _clients(cells: list[str]) -> np.ndarray:
    """Returns client ids as integers if all are, so that 10 comes after 9."""
    ids = np.array(cells)
    try:
        numbers = ids.astype(np.int64)
    except ValueError:
        return ids
    # '007' is a name.
    return numbers if np.array_equal(numbers.astype(str), ids) else ids


def _is_test(path: pathlib.Path, cells: list[str]) -> np.ndarray:
    """Returns which rows are test examples by the column `split`."""
    wrong = sorted(set(cells) - {'train', 'test'})
    if wrong:
        raise UserError(
            f'{path}: the column split holds {wrong[0]!r}; use train and test only'
        )
    return np.array(cells) == 'test'

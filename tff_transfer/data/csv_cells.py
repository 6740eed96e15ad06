"""Tables of a few columns that tell of clients: CSV files as cells of text."""

import csv
import pathlib

from tff_transfer.errors import UserError


def read(path: pathlib.Path) -> tuple[list[str], list[dict[str, str]]]:
    """Reads a CSV file of commas, in UTF-8, with a header; blank lines are passed over.

    Returns:
      The names of its columns, none of an empty file; and for each other row its cells
      by column.

    Raises:
      UserError: It cannot be read, or a row has more or fewer cells than the header.
    """
    try:
        with open(path, encoding='utf-8-sig', newline='') as file:
            lines = [row for row in csv.reader(file, strict=True) if any(row)]
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f'{path}: is no CSV text in UTF-8 ({error}); save it as such'
        ) from error
    if not lines:
        return [], []
    header = [cell.strip() for cell in lines[0]]
    for number, row in enumerate(lines[1:], 2):
        if len(row) != len(header):
            raise UserError(
                f'{path}: row {number} has {len(row)} cells, but the header has'
                f' {len(header)}; the file may be truncated'
            )
    rows = (map(str.strip, row) for row in lines[1:])
    return header, [dict(zip(header, row, strict=True)) for row in rows]

"""Which column of a table of examples holds what; the same for every kind of file."""

import dataclasses
import itertools
import os
import re
from collections.abc import Mapping, Sequence

import numpy as np

from tff_transfer.data.examples import image_shape
from tff_transfer.errors import UserError

_NAMES = {
    'label': ('label', 'labels', 'class', 'target', 'y'),
    'client': ('client', 'client_id', 'user', 'user_id', 'writer', 'writer_id',
               'site', 'hospital', 'patient', 'subject'),
    'image': ('image', 'image_path', 'path', 'file', 'filename', 'file_name'),
    'split': ('split',),
}  # fmt: skip
_PIXEL = re.compile(
    '(?:pixels?|px)[ _]?([0-9]{1,9})|([0-9]{1,9})x([0-9]{1,9})', re.IGNORECASE
)
# A column without a name, as pandas writes its index and reads it again.
_UNNAMED = re.compile(r'|Unnamed: [\d.]+')
# A longer id or label is a damaged file.
_LONGEST_TEXT = 1000


@dataclasses.dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what, by their numbers.

    Attributes:
      roles: The column of `client` and `label` and, where there are such, of `image`
        and `split`.
      numbers: The columns of an image's pixels, row by row, or of a vector's values,
        in order; none if there is a column `image`.
      image_shape: [height, width, 1 or 3] of such an image; None for a vector.
      unnamed: Columns that would belong to a vector if they had a name.
    """

    roles: Mapping[str, int]
    numbers: Sequence[int]
    image_shape: tuple[int, ...] | None
    unnamed: Sequence[int]


def find(
    path: str | os.PathLike[str], header: Sequence[str], named: Mapping[str, str | None]
) -> Columns:
    """Finds out which column holds what.

    Pixels are put in the order of their numbers, from 0 or 1 on (`pixel0`, `px_1`), or
    of their rows and columns (`1x1`), wherever they stand in the table.

    Args:
      path: Where the table is from, for errors.
      header: The columns' names.
      named: The names of the columns of `image`, `label` and `client`, None for those
        to be found out.

    Returns:
      The columns.

    Raises:
      UserError: It is not clear which column is which, or pixels are missing.
    """
    roles = _find_roles(path, header, named)
    if 'image' in roles:
        return Columns(roles, (), None, ())
    free = [i for i in range(len(header)) if i not in roles.values()]
    pixels = [
        (tuple(int(group) for group in match.groups() if group), i)
        for i in free
        if (match := _PIXEL.fullmatch(header[i]))
    ]
    if pixels:
        shape = _image_shape(path, header, sorted(pixels))
        return Columns(roles, [i for _, i in sorted(pixels)], shape, ())
    unnamed = [i for i in free if _UNNAMED.fullmatch(header[i])]
    numbers = [i for i in free if i not in unnamed]
    if not numbers:
        raise UserError(
            f'{path}: has no column of image paths, pixels or other numbers; add some'
        )
    return Columns(roles, numbers, None, unnamed)


def _find_roles(
    path: str | os.PathLike[str], header: Sequence[str], named: Mapping[str, str | None]
) -> dict[str, int]:
    """Returns the column of client, label and perhaps image and split."""
    roles = {}
    for role, names in _NAMES.items():
        if named.get(role) is not None:
            found = [i for i, cell in enumerate(header) if cell == named[role]]
        else:
            found = [i for i, cell in enumerate(header) if cell.lower() in names]
        if len(found) == 1:
            roles[role] = found[0]
        elif found or role in ('client', 'label') or named.get(role) is not None:
            remedy = f'name it with --{role}_key ({role}_key= in Python)'
            if role == 'split':
                remedy = 'keep one'
            if role == 'client':
                remedy += ', or deal the rows out with tff_transfer.data.partition'
            raise UserError(
                f'{path}: {len(found) or "no"} column(s) of the {role} among'
                f' {_listing(header)}; {remedy}'
            )
    return roles


def _listing(header: Sequence[str]) -> str:
    """Returns the first names on one line."""
    shown = [' '.join(name.split())[:40] for name in header[:6]]
    return ', '.join(shown) + (', ...' if len(header) > 6 else '')


def _image_shape(
    path: str | os.PathLike[str],
    header: Sequence[str],
    pixels: Sequence[tuple[tuple[int, ...], int]],
) -> tuple[int, ...]:
    """Returns the shape of an image whose pixels, sorted by number, have these columns.

    Raises:
      UserError: A pixel stands there twice or not at all, or they make no image.
    """
    keys = [key for key, _ in pixels]
    if len({len(key) for key in keys}) > 1:
        one, other = (
            next(header[column] for key, column in pixels if len(key) == length)
            for length in (1, 2)
        )
        raise UserError(
            f'{path}: names its pixel columns in two ways ({one!r} and {other!r}); name'
            ' all of them in one'
        )
    for (key, column), (next_key, next_column) in itertools.pairwise(pixels):
        if key == next_key:
            raise UserError(
                f'{path}: the columns {header[column]!r} and {header[next_column]!r}'
                ' are of the same pixel; remove one'
            )
    sides = _sides(path, header, pixels)
    shape = (*sides, 1) if len(sides) == 2 else image_shape(len(keys))
    if len(shape) == 1:
        raise UserError(
            f'{path}: {len(keys)} pixel columns make no square grey or RGB image; name'
            ' them 1x1, 1x2 and so on by row and column, or use .npz'
        )
    return shape


def _sides(
    path: str | os.PathLike[str],
    header: Sequence[str],
    pixels: Sequence[tuple[tuple[int, ...], int]],
) -> list[int]:
    """Returns how many numbers there are, or rows and columns; all must be there."""
    keys = [key for key, _ in pixels]
    # Counted from 0, or from 1.
    firsts = [min(min(numbers), 1) for numbers in zip(*keys, strict=True)]
    ends = [max(numbers) + 1 for numbers in zip(*keys, strict=True)]
    sides = [end - first for first, end in zip(firsts, ends, strict=True)]
    if len(keys) < np.prod(sides, dtype=float):
        ranges = (range(*bounds) for bounds in zip(firsts, ends, strict=True))
        missing = next(
            wanted
            for wanted, found in itertools.zip_longest(itertools.product(*ranges), keys)
            if wanted != found
        )
        raise UserError(
            f'{path}: has no column of pixel {"x".join(map(str, missing))}, but'
            f' {len(keys)} others up to {header[pixels[-1][1]]!r}; add it, or number'
            ' them from 0 on'
        )
    return sides


def check_unnamed(
    path: str | os.PathLike[str], column: int, cells: Sequence[str]
) -> None:
    """Checks that a column without a name is no part of the examples.

    It is none if it is empty, or numbers the rows: whole numbers, no two alike, as
    pandas writes its index, also that of rows that were chosen or shuffled.

    Args:
      path: Where the table is from, for the error.
      column: The column's number, from 0.
      cells: Its cells.

    Raises:
      UserError: It is something else.
    """
    cells = [cell.strip() for cell in cells]
    if not any(cells):
        return
    if not all(cell.isdecimal() for cell in cells) or len(set(cells)) < len(cells):
        raise UserError(
            f'{path}: column {column + 1} has no name and does not number the rows;'
            ' name it, or remove it (in pandas: index=False)'
        )


def texts(
    path: str | os.PathLike[str], role: str, name: str, cells: Sequence[str | None]
) -> list[str]:
    """Returns the cells of a role without spaces around them.

    Args:
      path: Where the table is from, for errors.
      role: What the cells are, such as `label`.
      name: The column's name.
      cells: The cells; None and blank ones are missing.

    Raises:
      UserError: A cell is missing, or cannot be what it should be.
    """
    stripped = [(cell or '').strip() for cell in cells]
    for row, cell in enumerate(stripped, 1):
        if not cell:
            raise UserError(
                f'{path}: example {row} has no {role} (column {name!r}); fill it in or'
                ' remove the row'
            )
        if len(cell) > _LONGEST_TEXT or '\0' in cell:
            raise UserError(
                f'{path}: the {role} of example {row} is {cell[:40]!r}...,'
                f' {len(cell)} characters; the file may be damaged'
            )
    return stripped


def clients(path: str | os.PathLike[str], cells: Sequence[str]) -> np.ndarray:
    """Returns client ids as integers if all are, so that 10 comes after 9.

    `007` is a name.

    Args:
      path: Where the table is from, for the error.
      cells: The ids [n] as they stand there.

    Raises:
      UserError: Two ids differ in the spaces around them alone.
    """
    kept: dict[str, str] = {}
    for cell in cells:
        other = kept.setdefault(cell.strip(), cell)
        if other != cell:
            raise UserError(
                f'{path}: the client ids {other!r} and {cell!r} differ in spaces alone;'
                ' write both alike, or give them different names'
            )
    ids = np.array([cell.strip() for cell in cells])
    try:
        numbers = ids.astype(np.int64)
    except (ValueError, OverflowError):
        return ids
    return numbers if np.array_equal(numbers.astype(str), ids) else ids


def images(x: np.ndarray) -> np.ndarray:
    """Returns images [n, ...] of whole numbers as integers if any is above 1."""
    is_bytes = np.isfinite(x).all() and x.max() > 1 and (x == np.rint(x)).all()
    return x.astype(np.int64) if is_bytes else x

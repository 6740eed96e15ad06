"""Examples by client in a Parquet file: one row an example."""

import os
import pathlib
from typing import Any

import numpy as np

from tff_transfer.data import checks, federated, image_files, parts, table_columns
from tff_transfer.data.examples import image_shape
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError, one_line

# What a column of flat lists is called that holds images; others hold vectors.
_IMAGE_NAMES = ('image', 'images', 'img', 'pixel', 'pixels')


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
    """Reads a Parquet file; see `by_client.load` for its columns.

    Args:
      path: The file.
      image_key: The column of images, pixels or paths, if it is not found out.
      label_key: The column of the labels.
      client_key: The column of the client ids.
      image_size: As in `image_files.read`.
      test_fraction: The share of test examples, where no column `split` has any.
      split_seed: The seed of that draw.

    Returns:
      The data.

    Raises:
      UserError: pyarrow is not installed, the file is damaged, values are missing or
        of another kind, or it is not clear which column is which.
    """
    path = pathlib.Path(path)
    table = _read_table(path)
    header = table.column_names
    if image_key is None:
        fields = table.schema
        nested = [field.name for field in fields if _is_nested(field.type)]
        image_key = nested[0] if len(nested) == 1 else None
    named = {'image': image_key, 'label': label_key, 'client': client_key}
    columns = table_columns.find(path, header, named)
    values = {
        role: _values(path, role, header[column], table.column(column))
        for role, column in columns.roles.items()
        if role != 'image'
    }
    labels, class_names = checks.index_labels(values['label'])
    clients = values['client']
    if clients.dtype.kind == 'U':
        cells = table.column(columns.roles['client']).to_pylist()
        clients = table_columns.clients(path, cells)
    if 'image' in columns.roles:
        column = columns.roles['image']
        x = _read_images(path, header[column], table.column(column), image_size)
    else:
        x = _read_numbers(path, table, columns)
    split = values.get('split')
    return federated.from_rows(
        path.name,
        x,
        labels,
        clients,
        class_names=class_names,
        is_test=None if split is None else parts.is_test(path, list(map(str, split))),
        test_fraction=test_fraction,
        split_seed=split_seed,
    )


def _read_table(path: pathlib.Path):
    """Returns the file as a `pyarrow.Table` with examples, without pandas' index."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError(
            f'{path}: Parquet is read by pyarrow, which cannot be imported'
            f" ({one_line(error)}); python -m pip install 'pyarrow<25'"
        ) from error
    try:
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        table.validate(full=True)
        names = table.column_names
    # ValueError for names that are no UTF-8.
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f'{path}: cannot be read: {error.strerror}') from error
        raise UserError(
            f'{path}: is truncated, damaged or no Parquet file ({one_line(error)});'
            ' write it again'
        ) from error
    if not len(table):
        raise UserError(f'{path}: has columns but no examples; add rows')
    return table.drop_columns([n for n in names if n.startswith('__index_level_')])


def _values(path: pathlib.Path, role: str, name: str, column) -> np.ndarray:
    """Returns the values of a role, [n], of a plain dtype, none missing."""
    values = column.to_pylist()
    if all(value is None or isinstance(value, str) for value in values):
        return np.array(table_columns.texts(path, role, name, values))
    _refuse_missing(path, name, column)
    return np.array(values)


def _refuse_missing(path: pathlib.Path, name: str, column) -> None:
    if column.null_count:
        row = column.is_null().to_pylist().index(True) + 1
        raise UserError(
            f'{path}: example {row} has no value in the column {name!r}; fill it in or'
            ' remove the row'
        )


def _read_numbers(
    path: pathlib.Path, table, columns: table_columns.Columns
) -> np.ndarray:
    """Returns the columns of pixels as images, or those of numbers as vectors."""
    import pyarrow

    for number in columns.unnamed:
        cells = [
            '' if value is None else str(value)
            for value in table.column(number).to_pylist()
        ]
        table_columns.check_unnamed(path, number, cells)
    numbers = []
    for number in columns.numbers:
        name, column = table.column_names[number], table.column(number)
        _refuse_missing(path, name, column)
        if not (
            pyarrow.types.is_integer(column.type)
            or pyarrow.types.is_floating(column.type)
        ):
            raise UserError(
                f'{path}: the column {name!r} is of {column.type}, but should be of'
                ' numbers; remove it, or name the column of images with --image_key'
                ' (image_key= in Python)'
            )
        numbers.append(column.to_numpy().astype(np.float32))
    x = np.stack(numbers, axis=1)
    if columns.image_shape is None:
        return x
    return table_columns.images(x.reshape(-1, *columns.image_shape))


def _is_nested(kind) -> bool:
    """Returns whether a column of this type holds lists or bytes, such as images."""
    import pyarrow

    return (
        pyarrow.types.is_nested(kind)
        or pyarrow.types.is_binary(kind)
        or pyarrow.types.is_large_binary(kind)
    )


def _is_list(kind) -> bool:
    import pyarrow

    return (
        pyarrow.types.is_list(kind)
        or pyarrow.types.is_large_list(kind)
        or pyarrow.types.is_fixed_size_list(kind)
    )


def _read_images(
    path: pathlib.Path, name: str, column, image_size: tuple[int, int] | None
) -> np.ndarray:
    """Returns what a column of paths, of encoded images or of lists of pixels holds."""
    _refuse_missing(path, name, column)
    kind = column.type
    if _is_list(kind):
        return _of_lists(path, name, column)
    sources, names = [], []
    for row, value in enumerate(column.to_pylist(), 1):
        source = _source(path, value)
        if source is None:
            raise UserError(
                f'{path}: the column {name!r} is of {kind}, with no image in example'
                f' {row}; give paths, encoded images, lists of pixels, or a struct of'
                ' bytes and path'
            )
        sources.append(source)
        is_path = isinstance(source, pathlib.Path)
        names.append(str(source) if is_path else f'{path}: the image of example {row}')
    return image_files.read(sources, names, image_size=image_size)


def _source(path: pathlib.Path, value: Any) -> pathlib.Path | bytes | None:
    """Returns where a value says an image is, or the image's file itself."""
    if isinstance(value, dict):  # As Hugging Face's `datasets` has it.
        value = value.get('bytes') or value.get('path')
    if isinstance(value, str):
        return path.parent / value.strip()
    return value if isinstance(value, bytes) else None


def _of_lists(path: pathlib.Path, name: str, column) -> np.ndarray:
    """Returns lists of numbers, perhaps nested, as images or vectors."""
    import pyarrow
    import pyarrow.compute

    array = pyarrow.concat_arrays(column.chunks)
    shape = [len(array)]
    while _is_list(array.type):
        lengths = pyarrow.compute.list_value_length(array).unique().to_pylist()
        array = array.flatten()
        if len(lengths) != 1 or not lengths[0] or array.null_count:
            raise UserError(
                f'{path}: the lists of the column {name!r} are not of one length, or'
                ' lack values; bring them to one size, or store encoded images'
            )
        shape.append(lengths[0])
    if not (
        pyarrow.types.is_integer(array.type) or pyarrow.types.is_floating(array.type)
    ):
        raise UserError(
            f'{path}: the column {name!r} is of {column.type}; give lists of numbers'
        )
    x = array.to_numpy(zero_copy_only=False).reshape(shape)
    if len(shape) == 2 and name.lower() in _IMAGE_NAMES:
        x = x.reshape(-1, *image_shape(shape[1]))
    return table_columns.images(x) if x.ndim > 2 else x

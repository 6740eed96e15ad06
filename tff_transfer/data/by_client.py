"""The user's own examples by client, from files of several forms."""

import dataclasses
import os
import pathlib

from tff_transfer.data import csv_table, image_folders, npz, parquet_table, sqlite
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError


def load(
    path: str | os.PathLike[str],
    *,
    image_key: str | None = None,
    label_key: str | None = None,
    client_key: str | None = None,
    image_size: tuple[int, int] | None = None,
    test_fraction: float = 0.1,
    split_seed: int = 0,
) -> FederatedData:
    """Loads examples by client.

    What is at `path` may be:

    - `.npz`: an array of images, one of labels and one of client ids; their keys are
      found out from names, shapes and dtypes. A bool array, or one of 0 and 1, named
      `is_test` or `test` says which rows are test examples, or an array named `split`
      that holds `train`, `val` and `test`. There may be arrays for each part instead:
      `x_train`, `y_train`, `client_train`, `x_test`, ..., or `val_images` and so on.
    - `.csv` or `.tsv`: a header and one row an example, with a column for the client,
      one for the label, and either a column of image paths (relative to the file),
      columns of pixels (numbered `pixel0` or `px_0` and so on, row by row, a square
      grey or RGB image; or `1x1` by row and column, a grey one), in any order, or
      columns of other numbers (a vector, without a nameless column that numbers the
      rows, such as pandas writes). A column named `split` that holds `train`,
      `validation` and `test` is the source's own split. Cells are separated by commas,
      semicolons, tabs or `|`.
    - `.parquet`, read by pyarrow: the same columns; or a column of encoded images, of
      bytes or of structs of `bytes` and `path` as Hugging Face's `datasets` writes
      them; or one of lists, nested as an image is, or flat (a square image if the
      column is called image or pixels, else a vector).
    - a folder `CLIENT/LABEL/FILE.png`, or `LABEL/CLIENT_FILE.png`, where the client
      is what stands before the last underscore of a file's name; either of them also
      below `train/`, `validation/` and `test/`, the source's own split.
    - `.sqlite` or `.db`: TFF's schema (see `sqlite`), with its own split.

    Image files have 8 bits a channel and one picture (of animations and several pages
    none is chosen); they are turned upright by their EXIF orientation. Validation
    examples are training examples.

    Labels that are whole numbers from 0 on, and most of them occur, are the classes'
    numbers. Other numbers (1 to 10; 10 and 100) and text are numbered from 0 in sorted
    order, and what they were becomes `class_names`; which, and which classes have no
    examples, is logged. Images may have an alpha channel, which is left out, be bool,
    or floats in [0, 1], [-1, 1] or whole up to 255; see `inputs.check`.

    Args:
      path: The file or folder.
      image_key: The key or column of the images, if it is not found out.
      label_key: That of the labels.
      client_key: That of the client ids.
      image_size: Height and width that images of files are brought to as they are
        read, if they are not all of one size (see `image_files.read`).
      test_fraction: The share of each client's examples that are test examples,
        where the source has no split of its own.
      split_seed: The seed of that draw.

    Returns:
      The data.

    Raises:
      UserError: The path is absent, of an unknown form, damaged, or what it holds
        does not fit; one line with the path and what to do.
    """
    if not os.fspath(path):
        raise UserError('the path of the data is empty; give a file or a folder')
    path = pathlib.Path(path)
    keys = {'image_key': image_key, 'label_key': label_key, 'client_key': client_key}
    split = {'test_fraction': test_fraction, 'split_seed': split_seed}
    data = _read(path, keys, split, image_size)
    return dataclasses.replace(data, name=image_folders.printable(data.name))


def _read(
    path: pathlib.Path,
    keys: dict[str, str | None],
    split: dict[str, float],
    image_size: tuple[int, int] | None,
) -> FederatedData:
    """Reads a file or folder by its kind."""
    try:
        is_folder = path.is_dir()
        if not is_folder and not path.is_file():
            raise UserError(f'{path}: no such file or folder; check the path')
    except OSError as error:
        raise UserError(f'{path}: cannot be read: {error.strerror}') from error
    suffix = '' if is_folder else path.suffix.lower()
    if suffix == '.npz':
        return npz.read_by_client(path, **keys, **split)
    if suffix in ('.csv', '.tsv'):
        return csv_table.read(path, **keys, **split, image_size=image_size)
    if suffix == '.parquet':
        return parquet_table.read(path, **keys, **split, image_size=image_size)
    named = [key for key, value in keys.items() if value is not None]
    if named:
        raise UserError(
            f'{path}: has no keys or columns that --{named[0]} ({named[0]}= in Python)'
            ' could name; leave it out (it is for npz, csv, tsv and parquet)'
        )
    if is_folder:
        return image_folders.read(path, **split, image_size=image_size)
    if suffix in ('.sqlite', '.sqlite3', '.db'):
        return sqlite.read(path, **split)
    raise UserError(
        f'{path}: unknown kind of file {suffix!r}; give .npz, .csv, .tsv, .parquet,'
        ' .sqlite or a folder of images'
    )

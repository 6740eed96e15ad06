"""What is known of each round: `metrics.csv` and TensorBoard events."""

import csv
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import TextIO

import tensorflow as tf

from tff_transfer import files

Row = Mapping[str, float | int | None]


def read(path: pathlib.Path) -> list[dict[str, float | int | None]]:
    """Reads a `metrics.csv`, leaving out a last row that is not whole.

    Returns:
      A dict for each row; a cell without value is None.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding='utf-8').splitlines(keepends=True)
    whole = [line for line in lines if line.endswith('\n')]
    return [
        {column: _number(cell) for column, cell in cells.items()}
        for cells in csv.DictReader(whole)
    ]


def _number(cell: str) -> float | int | None:
    """Returns what `repr` wrote, an int as an int, so that it is written again so."""
    if not cell:
        return None
    try:
        return int(cell)
    except ValueError:
        return float(cell)


class Records:
    """The rows of a run, in memory and on disk.

    Args:
      run_dir: Where `metrics.csv` and `tensorboard/` stand, or None for memory only.
      columns: The names of all values, `round` first.
      up_to_round: Rows of later rounds are dropped: they will be made again.
    """

    def __init__(
        self, run_dir: pathlib.Path | None, columns: Sequence[str], up_to_round: int
    ):
        self.rows: list[Row] = []
        self._columns, self._file, self._writer = columns, None, None
        if run_dir is None:
            return
        path, events = run_dir / 'metrics.csv', run_dir / 'tensorboard'
        self.rows = [row for row in read(path) if row['round'] <= up_to_round]
        with files.replacing(path) as new, open(new, 'w', encoding='utf-8') as file:
            self._write(file, columns, *map(self._cells, self.rows))
        self._file = open(path, 'a', encoding='utf-8')  # noqa: SIM115
        shutil.rmtree(events, ignore_errors=True)
        self._writer = tf.summary.create_file_writer(str(events))
        for row in self.rows:
            self._write_event(row)

    def _cells(self, row: Row) -> list[str]:
        cells = (row[column] for column in self._columns)
        return ['' if cell is None else repr(cell) for cell in cells]

    def _write(self, file: TextIO, *lines: Sequence[str]) -> None:
        csv.writer(file, lineterminator='\n').writerows(lines)
        file.flush()
        os.fsync(file.fileno())

    def _write_event(self, row: Row) -> None:
        with self._writer.as_default(step=row['round']):
            for column in self._columns[1:]:
                if row[column] is not None:
                    tf.summary.scalar(column, row[column])

    def append(self, row: Row) -> None:
        """Adds a round's row; it is on disk when this returns."""
        row = {column: row.get(column) for column in self._columns}
        self.rows.append(row)
        if self._file is not None:
            self._write(self._file, self._cells(row))
            self._write_event(row)

    def close(self) -> None:
        """Closes the files."""
        if self._file is not None:
            self._file.close()
            self._writer.close()

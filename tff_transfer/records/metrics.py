"""What is known of each round: `metrics.csv` and TensorBoard events."""

import csv
import hashlib
import io
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import files
from tff_transfer.errors import UserError, one_line
from tff_transfer.records import samples as grids
from tff_transfer.records.run_directory import writing

Row = dict[str, float | int | None]

# When a round ended, in seconds, by the devices that clients run on.
SIMULATED = 'time/simulated_s'


def lines(path: pathlib.Path) -> list[bytes]:
    """Returns the lines of a `metrics.csv`, the column names first.

    A last one that is not whole is left out; an absent file has none.

    Raises:
      UserError: The file cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f'{path} cannot be read ({error.strerror})') from error
    return [line + b'\n' for line in content.split(b'\n')[:-1]]


def digest(written: Iterable[bytes]) -> str:
    """Returns the SHA-256 of lines, in hexadecimal: a checkpoint has that of its rows.

    The lines are those of `metrics.csv`, from the column names to the checkpoint's
    round: they tell whether the file still holds what was written.
    """
    return hashlib.sha256(b''.join(written)).hexdigest()


def parse(written: Sequence[bytes], path: pathlib.Path) -> list[Row]:
    """Returns the rows of the lines of a `metrics.csv`.

    Args:
      written: The column names, then the rows of rounds 0, 1, 2 and so on.
      path: Where they stand, for messages.

    Returns:
      A dict for each row; a cell without value is None.

    Raises:
      UserError: They are something else.
    """
    rows = []
    try:
        text = [line.decode('ascii') for line in written]
        columns, *table = csv.reader(text, strict=True)
        for number, cells in enumerate(table):
            row = dict(zip(columns, map(_number, cells), strict=True))
            if row['round'] != number:
                raise ValueError(f'round {row["round"]} stands there')
            rows.append(row)
    except (ValueError, KeyError, csv.Error) as error:
        raise UserError(
            f'{path} is damaged in the row of round {len(rows)} ({one_line(error)});'
            ' put a whole copy of the file back'
        ) from error
    return rows


def read(path: pathlib.Path) -> list[Row]:
    """Reads a `metrics.csv`, leaving out a last row that is not whole.

    Returns:
      A dict for each row, of which an absent file has none; a cell without value is
      None.

    Raises:
      UserError: The file cannot be read or is something else.
    """
    written = lines(path)
    return parse(written, path) if written else []


def _number(cell: str) -> float | int | None:
    """Returns what `repr` wrote, an int as an int, so that it is written again so."""
    if not cell:
        return None
    try:
        return int(cell)
    except ValueError:
        return float(cell)


def _line(cells: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerow(cells)
    return text.getvalue().encode()


class Records:
    """The rows of a run, and its grids of samples, in memory and on disk.

    Args:
      run_dir: Where `metrics.csv` and `tensorboard/` stand, or None for memory only.
      columns: The names of all values, `round` first.
      up_to_round: Rows of later rounds are dropped: they will be made again.

    Raises:
      UserError: What stands there are no rows of these columns.
    """

    def __init__(
        self, run_dir: pathlib.Path | None, columns: Sequence[str], up_to_round: int
    ):
        self.rows: list[Row] = []
        # Grids of what a generative model made, by round.
        self.samples: dict[int, np.ndarray] = {}
        self._columns, self._run_dir = columns, run_dir
        if run_dir is None:
            return
        path, header = run_dir / 'metrics.csv', _line(columns)
        written = lines(path)[: up_to_round + 2]
        if path.exists() and written[:1] != [header]:
            raise UserError(
                f'{path} has other columns than this version writes; choose another'
                ' --run_dir'
            )
        kept = written or [header]
        self.rows = parse(kept, path)
        self._path, self._sha256 = path, hashlib.sha256(b''.join(kept))
        with writing(run_dir):
            with files.replacing(path) as new:
                new.write_bytes(b''.join(kept))
            for old in (run_dir / 'tensorboard').glob('events.out.tfevents.*'):
                old.unlink()
            self.samples = grids.read(run_dir, up_to_round)
            self._writer = tf.summary.create_file_writer(str(run_dir / 'tensorboard'))
            for row in self.rows:
                self._write_event(row)

    @property
    def digest(self) -> str:
        """`digest` of what stands in `metrics.csv`; of a run in memory, empty."""
        return self._sha256.hexdigest() if self._run_dir else ''

    def _write_event(self, row: Row) -> None:
        with self._writer.as_default(step=row['round']):
            for column in self._columns[1:]:
                if row[column] is not None:
                    tf.summary.scalar(column, row[column])
            if row['round'] in self.samples:
                tf.summary.image('samples', self.samples[row['round']][np.newaxis])

    def append(self, row: Row, samples: np.ndarray | None = None) -> None:
        """Adds a round's row; it is on disk when this returns.

        Args:
          row: By column.
          samples: A grid of what the model makes, uint8 [height, width, 1 or 3].
        """
        row = {column: row.get(column) for column in self._columns}
        self.rows.append(row)
        if samples is not None:
            self.samples[row['round']] = samples
            if self._run_dir is not None:
                with writing(self._run_dir):
                    grids.write(self._run_dir, row['round'], samples)
        if self._run_dir is None:
            return
        line = _line('' if cell is None else repr(cell) for cell in row.values())
        with writing(self._run_dir):
            with open(self._path, 'ab') as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            self._write_event(row)
        self._sha256.update(line)

    def close(self) -> None:
        """Closes the TensorBoard events."""
        if self._run_dir is not None:
            with writing(self._run_dir):
                self._writer.close()

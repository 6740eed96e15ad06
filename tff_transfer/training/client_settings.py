"""How single clients train, where they do not all train alike."""

import dataclasses
import pathlib

import numpy as np

from tff_transfer.algorithms import registry
from tff_transfer.data import csv_cells
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.training.config import Config

_COLUMNS = ('epochs', 'batch_size', 'learning_rate')


@dataclasses.dataclass(frozen=True)
class ClientSettings:
    """How each client of a population trains in rounds.

    Attributes:
      epochs: How many passes it makes, int64 [clients].
      batch_size: Examples of a batch, int64 [clients].
      rate: What its learning rate is multiplied by, float32 [clients]; None if all
        have the same.
    """

    epochs: np.ndarray
    batch_size: np.ndarray
    rate: np.ndarray | None


def of(config: Config, data: FederatedData) -> ClientSettings | None:
    """Reads the client settings of a configuration, if it has any.

    Raises:
      UserError: The file is no such file, names what the data do not have, or has a
        column that has no effect, or another one than it says.
    """
    training = config.training
    if training.client_settings is None:
        return None
    path = pathlib.Path(training.client_settings)
    rows = _read(path)
    given = {name: {} for name in _COLUMNS if name in rows[0]}
    numbers = {name: number for number, name in enumerate(data.client_ids)}
    seen = set()
    for line, row in enumerate(rows, 2):
        name = row['client']
        if name not in numbers:
            raise UserError(f'{path}: row {line}: {data.name} has no client {name!r}')
        if name in seen:
            raise UserError(f'{path}: row {line} is a second one of {name!r}')
        seen.add(name)
        for column, values in given.items():
            if row[column]:
                value = _value(path, line, column, row[column])
                values[numbers[name]] = value
    _check_effects(config, path, given)

    def filled(column: str, default: float, dtype) -> np.ndarray:
        found = np.full(len(data), default, dtype)
        for client, value in given.get(column, {}).items():
            found[client] = value
        return found

    rate = training.client_learning_rate
    rates = filled('learning_rate', rate, np.float64) / rate
    return ClientSettings(
        filled('epochs', training.client_epochs, np.int64),
        filled('batch_size', training.batch_size, np.int64),
        rates.astype(np.float32) if given.get('learning_rate') else None,
    )


def _read(path: pathlib.Path) -> list[dict[str, str]]:
    """Returns the rows of a file, at least one, of known columns alone."""
    header, rows = csv_cells.read(path)
    unknown = [name for name in header if name not in ('client', *_COLUMNS)]
    if 'client' not in header or len({*header}) != len(header) or unknown:
        raise UserError(
            f'{path}: must have the columns client and some of {", ".join(_COLUMNS)},'
            f' but has {", ".join(header)[:80] or "none"}'
        )
    if not rows:
        raise UserError(f'{path}: has a header but no clients; add rows')
    return rows


def _value(path: pathlib.Path, line: int, column: str, cell: str) -> float:
    kind = float if column == 'learning_rate' else int
    try:
        value = kind(cell)
    except ValueError:
        value = 0
    if not 0 < value < (np.inf if kind is float else 2**31):
        told = 'a number above 0' if kind is float else 'a whole number from 1 on'
        raise UserError(
            f'{path}: row {line}: {column} is {cell[:20]!r}, but must be {told}'
        )
    return value


def _check_effects(config: Config, path: pathlib.Path, given: dict) -> None:
    """Checks that no column is given that something else leaves without effect."""
    name = registry.name_of(config.algorithm)
    training = config.training
    if given.get('learning_rate') and name in registry.WITHOUT_CLIENT_RATE:
        raise UserError(
            f'{path}: has learning_rate, but with --algorithm={name} clients send the'
            ' gradient and take no step; leave the column out'
        )
    if given.get('learning_rate') and training.client_optimizer == 'adafactor':
        raise UserError(
            f'{path}: has learning_rate, which --client_optimizer=adafactor cannot'
            ' change; leave the column out, or use another optimizer'
        )
    if given.get('epochs') and name in registry.BY_OWN_PASSES:
        raise UserError(
            f'{path}: has epochs, but with --algorithm={name} a client stops by itself;'
            ' leave the column out'
        )
    if given.get('epochs') and training.min_client_epochs is not None:
        raise UserError(
            f'{path}: has epochs, but with --min_client_epochs these are drawn; give'
            ' one of them'
        )

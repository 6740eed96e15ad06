"""What a grid keeps of each run: how each client fared, beside the run's own records.

A run that has it for its configuration is finished and is not opened again.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from tff_transfer import files, options
from tff_transfer.errors import UserError, one_line
from tff_transfer.records import metrics
from tff_transfer.training.config import Config
from tff_transfer.training.result import Result

FILE = 'clients.json'
PARTS = ('seen', 'unseen')


@dataclasses.dataclass(frozen=True, eq=False)
class Clients:
    """How the clients of a run fared, those of a part in the data's order.

    Attributes:
      names: Of those who were judged.
      unseen: Whether they never trained, bool [clients].
      examples: Test examples of each, int64 [clients].
      right: How many of these were right, float64 [clients].
      all_examples: All examples by which each was judged: of unseen clients who do not
        adapt, the training examples too.
      all_right: How many of these were right.
    """

    names: tuple[str, ...]
    unseen: np.ndarray
    examples: np.ndarray
    right: np.ndarray
    all_examples: np.ndarray
    all_right: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a run.

    Attributes:
      clients: How its clients fared.
      rows: Its rows of `metrics.csv`.
      data: The SHA-256 of its data.
    """

    clients: Clients
    rows: Sequence[Mapping[str, float | None]]
    data: str


def write(folder: pathlib.Path, config: Config, result: Result) -> None:
    """Writes what a grid keeps of a run that has just finished."""
    data, decides = result.setup.data, result.task.decides
    columns = {'names': [], 'unseen': []}
    numbers = {'examples': [], 'right': [], 'all_examples': [], 'all_right': []}
    for part in PARTS:
        found = result.predictions[part]
        holders, values = data.client_of_row[found.rows], found.measured[decides]
        tests = ~data.is_train[found.rows]
        there = np.unique(holders)
        columns['names'] += [data.client_ids[client] for client in there]
        columns['unseen'] += [part == 'unseen'] * len(there)
        for name, weights in (
            ('examples', tests),
            ('right', tests * values),
            ('all_examples', np.ones(len(holders))),
            ('all_right', values),
        ):
            sums = np.bincount(holders, weights, len(data))[there]
            numbers[name] += sums.tolist()
    text = json.dumps({'flags': options.to_flags(config), **columns, **numbers})
    files.write_text(folder / FILE, text + '\n')


def finished(folder: pathlib.Path, config: Config) -> bool:
    """Returns whether a folder has what came of a run of a configuration."""
    try:
        stored = json.loads((folder / FILE).read_text('utf-8'))
        return stored['flags'] == options.to_flags(config)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def read(folder: pathlib.Path) -> Outcome:
    """Reads what came of a finished run.

    Raises:
      UserError: Something of it is lost or damaged.
    """
    try:
        stored = json.loads((folder / FILE).read_text('utf-8'))
        del stored['flags']
        arrays = {name: np.array(it) for name, it in stored.items() if name != 'names'}
        clients = Clients(tuple(stored['names']), **arrays)
        sha256 = json.loads((folder / 'data.json').read_text('utf-8'))['sha256']
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f'{folder} cannot be read ({one_line(error)}); remove it, and its run is'
            ' made again'
        ) from error
    return Outcome(clients, metrics.read(folder / 'metrics.csv'), sha256)

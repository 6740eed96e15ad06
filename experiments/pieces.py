"""The pieces that a study is made of, each on disk when it is finished.

A piece that learns in rounds also has checkpoints, from which it goes on after a kill.
"""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tff_transfer import files
from tff_transfer.errors import UserError
from tff_transfer.records import checkpoints

_STUDY = 'study.json'


def open_folder(folder: pathlib.Path, study: Mapping[str, Any]) -> None:
    """Opens the folder of a study, or makes it.

    Args:
      folder: Where pieces are.
      study: What they are a function of, as JSON has it.

    Raises:
      UserError: It holds another study, or cannot be written.
    """
    path, text = folder / _STUDY, json.dumps(study, indent=1, sort_keys=True)
    try:
        files.remove_leftovers(folder)
        if not path.exists():
            files.write_text(path, text)
        found = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError) as error:
        raise UserError(
            f'--output={folder} cannot be used ({error}); choose another'
        ) from error
    different = sorted(
        name for name in {*found, *study} if found.get(name) != study.get(name)
    )
    if different:
        raise UserError(
            f'--output={folder} holds a study of another {", ".join(different)}; choose'
            ' another folder'
        )


def piece(folder: pathlib.Path, name: str, make: Callable[[], Any]) -> Any:
    """Returns a piece from its file, or makes it and writes that.

    Args:
      folder: Where pieces are.
      name: The piece's.
      make: Makes it, of what JSON has.
    """
    path = folder / f'{name}.json'
    if not path.exists():
        files.write_text(path, json.dumps(make()))
    return json.loads(path.read_text('utf-8'))


def rounds(
    folder: pathlib.Path,
    initial: Any,
    step: Callable[[Any], tuple[Any, Sequence[float]]],
    count: int,
    columns: int,
    every: int,
) -> tuple[Any, np.ndarray]:
    """Makes rounds, with checkpoints from which a killed process goes on.

    Args:
      folder: Where checkpoints are.
      initial: A structure of arrays: the state before the first round.
      step: Makes a round: from a state to the next one, and what is told of it.
      count: How many rounds.
      columns: How many numbers are told of a round.
      every: Rounds between checkpoints.

    Returns:
      The state after the last round, and what was told, float64 [count, columns].
    """
    state, told, done = initial, np.zeros((count, columns)), 0
    for number in reversed(checkpoints.rounds(folder)):
        try:
            (state, told), _ = checkpoints.load(folder, number, (initial, told))
        except checkpoints.BrokenError:
            continue  # The one before it is whole, or none is.
        done = number
        break
    for number in range(done + 1, count + 1):
        state, told[number - 1] = step(state)
        if number % every == 0 or number == count:
            checkpoints.save(folder, number, (state, told), '', keep=2)
    return state, told

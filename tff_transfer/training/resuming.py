"""Where a run goes on: after the newest round of which everything is whole."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from tff_transfer.errors import UserError
from tff_transfer.models import Task
from tff_transfer.records import checkpoints, metrics
from tff_transfer.training.stages import Stage


@dataclasses.dataclass(frozen=True)
class Reached:
    """What a run has come to after a round.

    Attributes:
      stage: The round's stage.
      round: The round's number; 0 is the start.
      state: The state of the stage's process.
    """

    stage: Stage
    round: int
    state: Any


def best_round(task: Task, rows: Sequence[Mapping]) -> int:
    """Returns the first round that was best on seen clients' test examples.

    Args:
      task: Says which measure decides.
      rows: The rows of a run, of which some have that measure.
    """
    column = f'seen/{task.decides}'
    judged = [row for row in rows if row[column] is not None]
    return judged[task.best([row[column] for row in judged])]['round']


def resume(
    run: Sequence[Stage],
    run_dir: pathlib.Path | None,
    *,
    best: Callable[[Sequence[Mapping]], int] | None,
) -> tuple[Reached, Reached]:
    """Finds where a run goes on.

    That is after the newest round whose checkpoint is whole and whose rows, with all
    before, are as they were written when the checkpoint was; else at the start.

    Args:
      run: The stages of the run.
      run_dir: The run directory, if there is one.
      best: Gives the best round of rows, where the best one up to there is needed too.

    Returns:
      What the run has come to; and the best round's, or else the same.

    Raises:
      UserError: There are whole checkpoints, but rows that belong to none of them; or
        a checkpoint of another structure.
    """
    start = Reached(run[0], 0, run[0].initialize())
    if run_dir is None:
        return start, start
    folder, path = run_dir / 'checkpoints', run_dir / 'metrics.csv'
    written, whole, passed = metrics.lines(path), False, []
    found = start, start
    for number in reversed(checkpoints.rounds(folder)):
        try:
            reached, rows = _load(run, folder, start, number)
            whole = True
            up_to = written[: number + 2]  # The column names, and round 0.
            if metrics.digest(up_to) != rows:
                raise checkpoints.BrokenError(
                    f'{path} does not hold what was written to round {number}'
                )
            exported = reached
            if best and (of := best(metrics.parse(up_to, path))) != number:
                exported, _ = _load(run, folder, start, of)
            found = reached, exported
            break
        except checkpoints.BrokenError as error:
            passed.append(str(error))
    if whole and found[0] is start:
        raise UserError(
            f'{passed[-1]}; put a whole copy back, or remove {folder} to begin the run'
            ' again'
        )
    for reason in passed:
        logging.warning('%s; going on from round %d', reason, found[0].round)
    return found


def weights_at(
    run: Sequence[Stage], run_dir: pathlib.Path | None, number: int
) -> list[np.ndarray]:
    """Returns the weights after a round of which there is a checkpoint, or at 0.

    Args:
      run: The stages of the run.
      run_dir: The run directory, if there is one.
      number: The round.

    Raises:
      UserError: There is no checkpoint of it, or a broken one.
    """
    if run_dir is None:
        raise UserError('a run in memory has no checkpoints; give a run directory')
    folder = run_dir / 'checkpoints'
    kept = checkpoints.rounds(folder)
    if number not in (0, *kept):
        raise UserError(
            f'{folder} has no checkpoint of round {number}, but of'
            f' {", ".join(map(str, kept))}; give one, or a larger --keep_checkpoints'
        )
    start = Reached(run[0], 0, run[0].initialize())
    try:
        found, _ = _load(run, folder, start, number)
    except checkpoints.BrokenError as error:
        raise UserError(f'{error}; give another round') from error
    return found.stage.weights(found.state)


def checkpointed(stage: Stage, run_dir: pathlib.Path | None) -> dict[int, Any]:
    """Returns the states that whole checkpoints hold of a stage that keeps rows.

    By round; none if its clients keep nothing, whose rows must stay.
    """
    found: dict[int, Any] = {}
    if run_dir is None or not stage.stored:
        return found
    folder, like = run_dir / 'checkpoints', stage.initialize()
    for number in checkpoints.rounds(folder):
        if number in stage.rounds:
            with contextlib.suppress(checkpoints.BrokenError):
                found[number], _ = checkpoints.load(folder, number, like)
    return found


def _load(
    run: Sequence[Stage], folder: pathlib.Path, start: Reached, number: int
) -> tuple[Reached, str]:
    """Returns what a run had come to after a round, and the digest of its rows."""
    if number == 0:
        return start, ''
    stage = next(stage for stage in run if number in stage.rounds)
    like = start.state if stage is start.stage else stage.initialize()
    state, rows = checkpoints.load(folder, number, like)
    return Reached(stage, number, state), rows

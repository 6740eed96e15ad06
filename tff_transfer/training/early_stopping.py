"""When a run stops because nothing better comes out any more."""

import dataclasses
from collections.abc import Mapping, Sequence

from tff_transfer.models import Task
from tff_transfer.training.training_config import TrainingConfig

# What early stopping goes by where a method measures it.
VALIDATION = 'server/validation_loss'


def stopped_early(config: TrainingConfig, task: Task, rows: Sequence[Mapping]) -> bool:
    """Returns whether too long nothing better came out for seen clients.

    That is by their test examples or, where the method measures it, by the loss on
    their validation parts.
    """
    if config.early_stop_patience is None:
        return False
    column, every = f'seen/{task.decides}', config.evaluate_every
    if VALIDATION in rows[0]:
        column, every = VALIDATION, 1
        task = dataclasses.replace(task, highest=False)
    # A run that went on to more rounds has been evaluated at its former end too.
    values = [
        row[column]
        for row in rows
        if row['round'] % every == 0 and row[column] is not None
    ]
    if not values:
        return False
    since_best = len(values) - 1 - task.best(values)
    return since_best >= config.early_stop_patience

"""The columns of `metrics.csv` (docs/metrics.md), and what a round fills them with."""

from collections.abc import Mapping

import numpy as np

from tff_transfer.data.cohorts import Cohort
from tff_transfer.models.task import Task

# Of whom a model is evaluated: clients that train, and others.
PARTS = ('seen', 'unseen')


def names(task: Task) -> tuple[str, ...]:
    """Returns the names of the columns of a run, in order.

    Args:
      task: What is trained for.
    """
    evaluated = (*task.measures, task.per_client)
    return (
        'round',
        *(f'train/{name}' for name in task.measures),
        'train/clients',
        'train/dropped_clients',
        *(f'{part}/{name}' for part in PARTS for name in evaluated),
        'bytes/up',
        'bytes/down',
        'time/round_s',
        'time/evaluation_s',
        'time/total_s',
    )


def of_training(task: Task, metrics: Mapping, cohort: Cohort) -> dict[str, float]:
    """Returns the columns that a round of training fills.

    Args:
      task: What is trained for.
      metrics: What the process measured.
      cohort: The round's examples.

    Returns:
      The number of clients with examples whose updates were used and dropped, since
      they or their mean were not finite; and the task's measures, if there are clients
      to have them.
    """
    found = metrics['client_work']['train']
    trained = np.count_nonzero(np.diff(cohort.row_splits))
    used = int(metrics['used'])
    columns = {'train/clients': used, 'train/dropped_clients': int(trained - used)}
    if found['clients']:
        columns |= {f'train/{name}': float(found[name]) for name in task.measures}
    return columns

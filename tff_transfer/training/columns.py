"""The columns of `metrics.csv` (docs/metrics.md), and what a round fills them with."""

from collections.abc import Iterable, Mapping

from tff_transfer.algorithms.compose import measurements
from tff_transfer.models.task import Task
from tff_transfer.records.metrics import SIMULATED

# Of whom a model is evaluated: clients that train, and others.
PARTS = ('seen', 'unseen')


# How many bytes they would be, entropy coded, of what a direction is compressed.
CODED = 'bytes/{}_coded'
# The privacy that is spent up to a round.
EPSILON = 'privacy/epsilon'
# The share of unseen clients' images with a trigger that are taken for its target.
BACKDOOR = 'unseen/backdoor'


def names(
    task: Task,
    measured: Iterable[str] = (),
    *,
    private: bool = False,
    coded: Iterable[str] = (),
    timed: bool = False,
    backdoor: bool = False,
) -> tuple[str, ...]:
    """Returns the names of the columns of a run, in order.

    Args:
      task: What is trained for.
      measured: The names of what method and aggregation measure, a name once or more.
      private: Whether something is promised of clients' data.
      coded: Which directions, `up` and `down`, are compressed.
      timed: Whether the clients' devices have a time that is told.
      backdoor: Whether hostile clients train one.
    """
    evaluated = (*task.measures, task.per_client)
    return (
        'round',
        *(f'train/{name}' for name in task.measures),
        'train/clients',
        'train/dropped_clients',
        *dict.fromkeys(measured),
        *((EPSILON,) if private else ()),
        *(f'{part}/{name}' for part in PARTS for name in evaluated),
        *((BACKDOOR,) if backdoor else ()),
        'bytes/up',
        'bytes/down',
        *map(CODED.format, coded),
        *((SIMULATED,) if timed else ()),
        'time/round_s',
        'time/evaluation_s',
        'time/total_s',
    )


def of_training(task: Task, metrics: Mapping, trained: int) -> dict[str, float]:
    """Returns the columns that a round of training fills.

    Args:
      task: What is trained for.
      metrics: What the process measured.
      trained: How many clients with examples it is of.

    Returns:
      The number of clients with examples whose updates were used and dropped, since
      they or their mean were not finite; the task's measures, if there are clients to
      have them; and what method and aggregation measured, if an update was used.
    """
    found = metrics['client_work']['train']
    used = int(metrics['used'])
    columns = {'train/clients': used, 'train/dropped_clients': trained - used}
    if found['clients']:
        columns |= {f'train/{name}': float(found[name]) for name in task.measures}
    if used:
        columns |= {name: float(of) for name, of in measurements(metrics).items()}
    return columns

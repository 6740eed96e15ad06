"""Whether training diverged, by the rows of a run."""

import math
from collections.abc import Mapping, Sequence

from absl import logging

from tff_transfer.training.columns import PARTS
from tff_transfer.training.training_config import TrainingConfig

# Every task has a loss.
LOSSES = tuple(f'{part}/loss' for part in ('train', *PARTS))


def of_row(row: Mapping[str, float | None]) -> str | None:
    """Returns how a round diverged, or None.

    A loss is not finite, or no update of a client was used, though there were some.
    """
    if row['train/dropped_clients'] and not row['train/clients']:
        return (
            f'the updates of all {row["train/dropped_clients"]} clients were dropped,'
            ' as they were not finite'
        )
    for column in LOSSES:
        if row[column] is not None and not math.isfinite(row[column]):
            return f'{column} is {row[column]}'
    return None


def described(config: TrainingConfig, rows: Sequence[Mapping]) -> str | None:
    """Returns how the first round that diverged did so and what to do, or None."""
    row = next(filter(of_row, rows), None)
    if row is None:
        return None
    remedy = 'check the inputs'
    if row['train/clients'] is None:  # Nothing was trained.
        remedy += ' and the weights that training starts from'
    else:
        remedy += (
            f', or lower --client_learning_rate ({config.client_learning_rate:g} now)'
            f' or --server_learning_rate ({config.server_learning_rate:g} now)'
        )
    return f'round {row["round"]} diverged: {of_row(row)}; {remedy}'


def stopped(config: TrainingConfig, rows: Sequence[Mapping]) -> bool:
    """Returns whether the last round diverged, in a run that is to stop then."""
    return config.on_divergence == 'stop' and of_row(rows[-1]) is not None


def warn(config: TrainingConfig, rows: Sequence[Mapping]) -> None:
    """Says what the last round of a run that goes on left out, if it is the first."""
    last, before = rows[-1], rows[:-1]
    if of_row(last):
        if config.on_divergence == 'continue' and not any(map(of_row, before)):
            logging.warning('%s', described(config, rows))
    elif last['train/dropped_clients'] and not any(
        row['train/dropped_clients'] for row in before
    ):
        logging.warning(
            'round %d: the updates of %d of %d clients were dropped, as they were not'
            ' finite; metrics.csv counts those of later rounds',
            last['round'],
            last['train/dropped_clients'],
            last['train/dropped_clients'] + last['train/clients'],
        )

"""Rounds of a process without a run's records, for studies that stop or start anew."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tff_transfer.algorithms.compose import Composed
from tff_transfer.data.cohorts import choose_clients, training_cohort
from tff_transfer.data.federated import FederatedData


def states(
    made: Composed,
    data: FederatedData,
    clients: Sequence[int],
    *,
    chosen: int,
    epochs: int,
    batch_size: int,
    seed: int,
    start: Sequence[np.ndarray] | None = None,
    keys: bool = False,
) -> Iterator[Any]:
    """Trains for ever.

    Args:
      made: What trains.
      data: The population.
      clients: The numbers of the clients that may take part.
      chosen: How many of them do so in a round.
      epochs: Passes over a client's examples.
      batch_size: Examples of a batch.
      seed: The seed of cohorts and batches.
      start: The server's weights at the start; the model's initial ones if not given.
      keys: Whether the model draws in training (`Model.takes_keys`).

    Yields:
      The state after each round.
    """
    state, kept, number = made.process.initialize(), {}, 0
    if start is not None:
        state = state._replace(server=state.server._replace(weights=tuple(start)))
    while True:
        number += 1
        draws = {'seed': seed, 'round_number': number}
        cohort = [clients[i] for i in choose_clients(len(clients), chosen, **draws)]
        examples = training_cohort(
            data, cohort, batch_size=batch_size, epochs=epochs, keys=keys, **draws
        )
        if made.kept is None:
            state = made.process.next(state, examples).state
        else:
            before = [kept.get(client, made.kept) for client in cohort]
            state, _, after = made.process.next(state, examples, before)
            kept.update(zip(cohort, after, strict=True))
        yield state

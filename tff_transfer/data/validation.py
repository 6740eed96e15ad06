"""A part of clients' training examples by which choices are made."""

from collections.abc import Sequence

import numpy as np

from tff_transfer import randomness
from tff_transfer.data.federated import FederatedData

# The share of training examples that choices are made by.
HELD_OUT = 0.2


def held_out(
    data: FederatedData, clients: Sequence[int], *, fraction: float, seed: int
) -> FederatedData:
    """Returns training examples of some clients, a part of them to judge by.

    Args:
      data: The population.
      clients: The numbers of the clients.
      fraction: The share of a client's training examples that is drawn, rounded; a
        client keeps one to train on.
      seed: The seed of that draw.

    Returns:
      The data of these clients alone, in that order: the drawn examples are its test
      examples, the other training examples its training examples. Test examples of
      `data` are not in it.
    """
    rows, counts = [np.zeros(0, np.int64)], []
    for client in clients:
        own = np.r_[data.train_rows(client)]
        draw = randomness.generator(seed, 'validation', client)
        rows.append(own[draw.permutation(len(own))])
        counts.append(min(round(fraction * len(own)), max(len(own) - 1, 0)))
    rows, drawn = np.concatenate(rows), np.array(counts, np.int64)
    return FederatedData(
        f'{data.name}, held out',
        data.x[rows],
        data.y[rows],
        tuple(data.client_ids[client] for client in clients),
        data.num_train[list(clients)] - drawn,
        drawn,
        data.num_classes,
        data.class_names,
    )

"""Sums over clients' training examples, in one round: what one-pass methods need."""

import collections
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.data.cohorts import Cohort
from tff_transfer.data.federated import FederatedData

# A function of vectors [batch, size], labels [batch] and the number of classes.
Statistics = Callable[[tf.Tensor, tf.Tensor, int], Mapping[str, tf.Tensor]]

_BYTES_OF_A_BLOCK = 2**28
_BATCH_SIZE = 128


def over_clients(
    data: FederatedData,
    clients: Sequence[int],
    statistics: Statistics,
    *,
    transform: Callable[[np.ndarray], np.ndarray] = lambda x: x,
) -> dict[str, np.ndarray]:
    """Sums statistics over the clients' training examples.

    A federated computation on the current runtime: each client sums over its own
    examples, and the server sees the sum over clients alone
    (`tff.federated_sum`). The clients take part in blocks of bounded memory.

    Args:
      data: The population, with vectors [n, size] as `x`.
      clients: The numbers of the clients that take part.
      statistics: Gives sums over one batch, in TensorFlow, by name: a function of
        `x` float32 [batch, size], `y` int32 [batch] and the number of classes. A
        function of a module, since what is built of it is kept.
      transform: What the clients do to their `x` before.

    Returns:
      The sums by name.
    """
    clients = np.asarray(clients, np.int64)
    size = data.x.shape[1]
    rows_of_a_block = max(1, _BYTES_OF_A_BLOCK // (4 * size))
    block_of_client = np.cumsum(data.num_train[clients]) // rows_of_a_block
    ends_of_blocks = np.flatnonzero(np.diff(block_of_client)) + 1
    computation = _computation(statistics, size, data.num_classes)
    totals = None
    for block in np.split(clients, ends_of_blocks):
        more = computation(_training_examples(data, block, transform))
        totals = {
            name: value if totals is None else totals[name] + value
            for name, value in more.items()
        }
    return totals


def _training_examples(data: FederatedData, clients: np.ndarray, transform) -> Cohort:
    rows = np.concatenate([np.r_[data.train_rows(client)] for client in clients])
    return Cohort(
        collections.OrderedDict(x=transform(data.x[rows]), y=data.y[rows]),
        np.concatenate([[0], np.cumsum(data.num_train[clients])]),
        _BATCH_SIZE,
    )


@functools.cache
def _computation(statistics: Statistics, size: int, classes: int) -> tff.Computation:
    """Builds the computation that sums `statistics` over clients."""
    batches = tff.SequenceType(
        collections.OrderedDict(
            x=tff.TensorType(np.float32, [None, size]),
            y=tff.TensorType(np.int32, [None]),
        )
    )

    def of_batch(x, y):
        return collections.OrderedDict(statistics(x, y, classes))

    @tff.tensorflow.computation(batches)
    def client_totals(dataset):
        def add(totals, batch):
            return tf.nest.map_structure(tf.add, totals, of_batch(**batch))

        nothing = of_batch(tf.zeros([0, size]), tf.zeros([0], tf.int32))
        return dataset.reduce(nothing, add)

    @tff.federated_computation(tff.FederatedType(batches, tff.CLIENTS))
    def totals(examples):
        return tff.federated_sum(tff.federated_map(client_totals, examples))

    return totals

"""Mean and deviation of features by a federated computation, in one round."""

import collections
import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.data.cohorts import Cohort
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.features.scaling import Standardisation

_BYTES_OF_A_BLOCK = 2**28
_BATCH_SIZE = 128


def standardisation(data: FederatedData, clients: Sequence[int]) -> Standardisation:
    """Computes means and deviations over the clients' training examples.

    A federated computation on the current runtime: each client sends the count, the
    sum and the sum of squares of its features, and the server sees sums over clients
    alone (`tff.federated_sum`). The clients take part in blocks of bounded memory.

    Args:
      data: The population, with features [n, size] as `x`.
      clients: The numbers of the clients that take part.

    Returns:
      The standardisation, with the deviations of the population (division by the
      count).

    Raises:
      UserError: The clients have no training examples.
    """
    clients = np.asarray(clients, np.int64)
    if not data.num_train[clients].sum():
        raise UserError(
            f'{data.name}: none of {len(clients)} clients has training examples to'
            ' standardise features with; change the split'
        )
    size = data.x.shape[1]
    rows_of_a_block = max(1, _BYTES_OF_A_BLOCK // (4 * size))
    block_of_client = np.cumsum(data.num_train[clients]) // rows_of_a_block
    ends_of_blocks = np.flatnonzero(np.diff(block_of_client)) + 1
    totals = _totals(size)
    found = [totals(_features(data, b)) for b in np.split(clients, ends_of_blocks)]
    count, total, squares = (
        sum(block[name] for block in found)
        for name in ('count', 'sum', 'sum_of_squares')
    )
    mean, second_moment = total / count, squares / count
    variance = second_moment - mean**2
    # What is left of a constant feature's variance is rounding.
    constant = variance <= 1e-12 * second_moment
    deviation = np.sqrt(np.where(constant, 1, variance))
    return Standardisation(mean.astype(np.float32), deviation.astype(np.float32))


def _features(data: FederatedData, clients: np.ndarray) -> Cohort:
    rows = np.concatenate([np.r_[data.train_rows(client)] for client in clients])
    splits = np.concatenate([[0], np.cumsum(data.num_train[clients])])
    return Cohort(data.x[rows], splits, _BATCH_SIZE)


@functools.cache
def _totals(size: int) -> tff.Computation:
    """Builds the computation that sums the moments over clients."""
    batches = tff.SequenceType(tff.TensorType(np.float32, [None, size]))

    def of_batch(x):
        x = tf.cast(x, tf.float64)
        return collections.OrderedDict(
            count=tf.cast(tf.shape(x)[0], tf.float64),
            sum=tf.reduce_sum(x, 0),
            sum_of_squares=tf.reduce_sum(x * x, 0),
        )

    @tff.tensorflow.computation(batches)
    def of_client(dataset):
        def add(totals, x):
            return tf.nest.map_structure(tf.add, totals, of_batch(x))

        return dataset.reduce(of_batch(tf.zeros([0, size])), add)

    @tff.federated_computation(tff.FederatedType(batches, tff.CLIENTS))
    def totals(features):
        return tff.federated_sum(tff.federated_map(of_client, features))

    return totals

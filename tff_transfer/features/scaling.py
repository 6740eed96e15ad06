"""Mean and deviation of features, over clients' training examples."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import aligned, reprs
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.features import totals


@dataclasses.dataclass(frozen=True, eq=False)
class Standardisation:
    """Shifts and scales features to mean 0 and deviation 1.

    Attributes:
      mean: float32 [size].
      deviation: Standard deviations, float32 [size]; 1 where a feature is constant.
    """

    mean: np.ndarray
    deviation: np.ndarray

    __repr__ = reprs.of_fields

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Returns features [..., size], an array or a tensor, standardised, float32."""
        if not isinstance(features, np.ndarray):
            return (features - self.mean) / self.deviation
        result = aligned.empty(features.shape, np.float32)
        np.subtract(features, self.mean, out=result)
        return np.divide(result, self.deviation, out=result)

    def of_one_scale(self) -> 'Standardisation':
        """Returns the same with one deviation, the root mean square of all.

        Where what gives the features is trained too: a feature that hardly differs
        between examples would send it thousands of times the gradient of others.
        """
        common = np.sqrt(np.mean(self.deviation**2))
        return Standardisation(self.mean, np.full_like(self.deviation, common))


def standardisation(data: FederatedData, clients: Sequence[int]) -> Standardisation:
    """Computes means and deviations over the clients' training examples.

    A federated computation on the current runtime: each client sends the count, the
    sum and the sum of squares of its features, and the server sees sums alone.

    Args:
      data: The population, with features [n, size] as `x`.
      clients: The numbers of the clients that take part.

    Returns:
      The standardisation, with the deviations of the population (division by the
      count).

    Raises:
      UserError: The clients have no training examples.
    """
    if not data.num_train[np.asarray(clients, np.int64)].sum():
        raise UserError(
            f'{data.name}: none of {len(clients)} clients has training examples to'
            ' standardise features with; change the split'
        )
    found = totals.over_clients(data, clients, _moments)
    count = found['count']
    mean = found['sum'] / count
    second_moment = found['sum_of_squares'] / count
    variance = second_moment - mean**2
    # What is left of a constant feature's variance is rounding.
    constant = variance <= 1e-12 * second_moment
    deviation = np.sqrt(np.where(constant, 1, variance))
    return Standardisation(mean.astype(np.float32), deviation.astype(np.float32))


def _moments(x: tf.Tensor, y: tf.Tensor, num_classes: int) -> dict[str, tf.Tensor]:
    del y, num_classes
    x = tf.cast(x, tf.float64)
    return {
        'count': tf.cast(tf.shape(x)[0], tf.float64),
        'sum': tf.reduce_sum(x, 0),
        'sum_of_squares': tf.reduce_sum(x * x, 0),
    }

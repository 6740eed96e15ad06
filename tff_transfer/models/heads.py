"""Heads that one federated round computes, without training."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import scipy.linalg
import tensorflow as tf

from tff_transfer import reprs
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.features import totals

# Heads that one federated round computes, without training.
ONE_ROUND = ('prototype', 'ridge')

# Penalties that are tried where none is given.
PENALTIES = tuple(10.0**power for power in range(-2, 6))

# The score of a class of which no client has an example: never the greatest.
_NEVER = -1e9


def own(
    make: Callable[[int, int], tf.keras.Model], feature_size: int, num_classes: int
) -> tf.keras.Model:
    """Makes a head of the user's own, and checks that it can be one.

    Args:
      make: A function of (feature size, classes) that makes a Keras network.
      feature_size: Features of an example.
      num_classes: Classes.

    Returns:
      The network, which takes features float32 [batch, feature_size], or a dict of
      `inputs` and `key` (see `models.from_keras`), to float32 [batch, num_classes].

    Raises:
      UserError: It makes anything else.
    """
    network = make(feature_size, num_classes)
    if not isinstance(network, tf.keras.Model):
        raise UserError(
            f'the head gives a {type(network).__name__}, but must give a tf.keras.Model'
        )
    if not network.inputs:
        raise UserError(
            f'the head {network.name} does not know its inputs; begin it with'
            f' tf.keras.Input(({feature_size},))'
        )
    given = network.input
    if isinstance(given, dict) and given.keys() == {'inputs', 'key'}:
        given = given['inputs']
    found = getattr(given, 'shape', 'several')
    if tuple(found) != (None, feature_size):
        raise UserError(
            f'the head {network.name} takes inputs of shape {found}, but the backbone'
            f' gives features of shape {(None, feature_size)}'
        )
    found = getattr(network.output, 'shape', 'several')
    if tuple(found) != (None, num_classes):
        raise UserError(
            f'the head {network.name} gives outputs of shape {found}, but there are'
            f' {num_classes} classes; end it with tf.keras.layers.Dense({num_classes})'
        )
    return network


def prototype(
    data: FederatedData,
    clients: Sequence[int],
    transform: Callable[[np.ndarray], np.ndarray],
) -> list[np.ndarray]:
    """Computes the classifier of the nearest class mean, in one round.

    Clients send the sum of their features and the count of each class. The logits
    are half the negative squared distances to the class means, less what all
    classes share, so that the classifier is linear (Mensink et al. 2013,
    "Distance-based image classification"; Snell et al. 2017, "Prototypical
    networks", equation 8; federated: Legate et al. 2023, "Guiding the last layer in
    federated learning with pre-trained models").

    Args:
      data: The population, with features [n, size] as `x`.
      clients: The numbers of the clients that take part.
      transform: What is done to the features first.

    Returns:
      Kernel float32 [size, classes] and bias float32 [classes]. A class without
      examples is never the nearest.

    Raises:
      UserError: The clients have no training examples.
    """
    found = totals.over_clients(data, clients, _class_sums, transform=transform)
    counts, means = _checked_means(data, found)
    bias = np.where(counts > 0, -0.5 * np.sum(means**2, 1), _NEVER)
    return [means.T.astype(np.float32), bias.astype(np.float32)]


def _checked_means(data: FederatedData, found) -> tuple[np.ndarray, np.ndarray]:
    """Returns counts [classes] and means [classes, size], 0 where there are none."""
    counts = found['counts']
    if not counts.sum():
        raise UserError(
            f'{data.name}: no client has training examples; change the split'
        )
    return counts, found['sums'] / np.maximum(counts, 1)[:, None]


def _class_sums(x: tf.Tensor, y: tf.Tensor, num_classes: int) -> dict[str, tf.Tensor]:
    classes = tf.one_hot(y, num_classes, dtype=tf.float64)
    return {
        'counts': tf.reduce_sum(classes, 0),
        'sums': tf.matmul(classes, tf.cast(x, tf.float64), transpose_a=True),
    }


def _second_moments(
    x: tf.Tensor, y: tf.Tensor, num_classes: int
) -> dict[str, tf.Tensor]:
    wide = tf.cast(x, tf.float64)
    return {
        'gram': tf.matmul(wide, wide, transpose_a=True),
        **_class_sums(x, y, num_classes),
    }


def ridge(
    data: FederatedData,
    clients: Sequence[int],
    transform: Callable[[np.ndarray], np.ndarray],
) -> Callable[[float], list[np.ndarray]]:
    """Solves ridge regression exactly, in one round, for any penalty.

    Clients send the sum of `x x^T` over their features, and of each class the sum
    of features and the count, in float64; the sums over clients are all that the
    solution needs, and all that the server sees. Targets are 1 for an example's
    class and -1 for the others; the intercept is not penalised. So the result is
    that of `sklearn.linear_model.RidgeClassifier` on the pooled data. Federated:
    Fani et al. 2024, "Accelerating heterogeneous federated learning with
    closed-form classifiers".

    Args:
      data: The population, with features [n, size] as `x`.
      clients: The numbers of the clients that take part.
      transform: What is done to the features first.

    Returns:
      A function of the penalty (scikit-learn's `alpha`, at least 0) that gives
      kernel float32 [size, classes] and bias float32 [classes].

    Raises:
      UserError: The clients have no training examples.
    """
    found = totals.over_clients(data, clients, _second_moments, transform=transform)
    counts, _ = _checked_means(data, found)
    count, sums = counts.sum(), found['sums']
    mean_x, mean_y = sums.sum(0) / count, 2 * counts / count - 1
    # Of the centred features, and between them and the centred targets.
    gram = found['gram'] - count * np.outer(mean_x, mean_x)
    products = 2 * (sums.T - np.outer(mean_x, counts))
    values, vectors = scipy.linalg.eigh(gram)
    rotated = vectors.T @ products

    def solve(penalty: float) -> list[np.ndarray]:
        # Rounding makes tiny eigenvalues negative.
        kept = np.maximum(values, 0) + penalty
        weights = np.divide(
            rotated,
            kept[:, None],
            out=np.zeros_like(rotated),
            where=kept[:, None] > np.finfo(float).eps * len(kept) * kept.max(),
        )
        kernel = vectors @ weights
        bias = mean_y - mean_x @ kernel
        return [kernel.astype(np.float32), bias.astype(np.float32)]

    return solve


@dataclasses.dataclass(frozen=True)
class Solution:
    """A head that one round computed.

    Attributes:
      weights: Kernel float32 [size, classes] and bias float32 [classes].
      bytes_up: What each client sent.
      chosen: What was chosen on the way, by name.
    """

    weights: list[np.ndarray]
    bytes_up: int
    chosen: dict[str, str] = dataclasses.field(default_factory=dict)

    __repr__ = reprs.of_fields


def solve(
    head: str,
    data: FederatedData,
    clients: Sequence[int],
    transform: Callable[[np.ndarray], np.ndarray],
    *,
    penalty: float | None = None,
    accuracy: Callable[[list[np.ndarray]], float] | None = None,
) -> Solution:
    """Computes a head in one round.

    Args:
      head: One of `ONE_ROUND`.
      data: The population, with features [n, size] as `x`.
      clients: The numbers of the clients that take part.
      transform: What is done to the features first.
      penalty: Of ridge regression; if not given, the one of `PENALTIES` with the
        best accuracy, the largest of equally good ones.
      accuracy: Of weights, on examples that are not summed, for that choice.

    Returns:
      The solution.

    Raises:
      UserError: No training examples, or none to choose a penalty on.
    """
    sums = data.num_classes * (data.x.shape[1] + 1)
    if head == 'prototype':
        return Solution(prototype(data, clients, transform), 8 * sums)
    if penalty is None and accuracy is None:
        raise UserError(
            f'{data.name}: seen clients have no test examples to choose the penalty'
            ' of ridge regression on; give --ridge_penalty or a --test_fraction'
        )
    weights_of = ridge(data, clients, transform)
    if penalty is None:
        penalty = max(PENALTIES, key=lambda each: (accuracy(weights_of(each)), each))
    sent = 8 * (sums + data.x.shape[1] ** 2)
    return Solution(weights_of(penalty), sent, {'ridge penalty': f'{penalty:g}'})

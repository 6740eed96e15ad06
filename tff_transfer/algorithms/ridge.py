"""Ridge regression, solved exactly in one round.

Clients send the sum of `x x^T` over their features, and of each class the sum of
features and the count: all that the solution needs. Targets are 1 for an example's
class and -1 for the others; the intercept is not penalised. So the result is that of
`sklearn.linear_model.RidgeClassifier` on the pooled data. Federated: Fani et al. 2024,
"Accelerating heterogeneous federated learning with closed-form classifiers".
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tff_transfer.algorithms import one_round
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.algorithms.prototype import class_sums
from tff_transfer.options import option

# Penalties that are tried where none is given, and the one that holds till then.
PENALTIES = tuple(10.0**power for power in range(-2, 6))
_FIRST = PENALTIES.index(1.0)


class Server(NamedTuple):
    """What the server has.

    Attributes:
      weights: Kernel float32 [size, classes] and bias float32 [classes].
      solutions: The same for each of `PENALTIES`, stacked, where none is given.
    """

    weights: tuple
    solutions: tuple


@dataclasses.dataclass(frozen=True)
class Ridge:
    """Ridge regression."""

    penalty: float | None = option(
        None,
        "The L2 penalty, scikit-learn's alpha; if not given, the best of 0.01, 0.1, ..."
        ' 100000 on the test examples of seen clients.',
        at_least=0,
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        if self.penalty is not None:
            return one_round.of_sums(
                context,
                _second_moments,
                Server(context.initial, ()),
                lambda found: Server(_nth(0, _solutions(found, [self.penalty])), ()),
            )

        def solve(found) -> Server:
            solutions = _solutions(found, PENALTIES)
            return Server(_nth(_FIRST, solutions), solutions)

        start = tuple(np.stack([weight] * len(PENALTIES)) for weight in context.initial)
        return one_round.of_sums(
            context,
            _second_moments,
            Server(context.initial, start),
            solve,
            choices=_choices,
        )


def _choices(server: Server) -> dict[str, tuple]:
    return {
        f'--ridge.penalty={penalty:g}': _nth(number, server.solutions)
        for number, penalty in enumerate(PENALTIES)
    }


def _nth(number: int, solutions: tuple) -> tuple:
    return tuple(stack[number] for stack in solutions)


def _second_moments(x, labels) -> dict:
    return {'gram': tf.matmul(x, x, transpose_a=True), **class_sums(x, labels)}


def _solutions(found: Mapping[str, Any], penalties: Sequence[float]) -> tuple:
    """Returns kernels float32 [penalties, size, classes] and biases."""
    counts, sums = found['counts'], found['sums']
    count = tf.reduce_sum(counts)
    mean_x = tf.math.divide_no_nan(tf.reduce_sum(sums, 0), count)
    mean_y = 2 * tf.math.divide_no_nan(counts, count) - 1
    # Of the centred features, and between them and the centred targets.
    gram = found['gram'] - count * mean_x[:, None] * mean_x
    products = 2 * (tf.transpose(sums) - mean_x[:, None] * counts)
    values, vectors = tf.linalg.eigh(gram)
    # Rounding makes tiny eigenvalues negative.
    kept = tf.maximum(values, 0) + np.array(penalties)[:, None]
    rounding = np.finfo(float).eps * kept.shape[1]
    least = rounding * tf.reduce_max(kept, 1, keepdims=True)
    inverse = tf.where(kept > least, tf.math.divide_no_nan(1.0, kept), 0)
    rotated = tf.matmul(vectors, products, transpose_a=True)
    kernels = tf.matmul(vectors[None], inverse[:, :, None] * rotated)
    biases = mean_y - tf.linalg.matvec(kernels, mean_x, transpose_a=True)
    return tf.cast(kernels, tf.float32), tf.cast(biases, tf.float32)

"""Each client's ridge regression, shrunk towards that of all clients together.

With features X (and a 1 for the intercept), targets Y as `ridge` has them and the head
G that one round computes of all clients, a client's own head is the W that minimises
|X W - Y|^2 + lambda |W - G|^2: the posterior mean of a Gaussian whose prior is the
population's head. Which lambda is decided by each client for itself, without a test
example: the one of the least squared error over its training examples, each left out
in turn, which the solution gives in closed form (Golub, Heath, Wahba 1979, "Generalized
cross-validation as a method for choosing a good ridge parameter").
"""

import dataclasses

import numpy as np
import tensorflow as tf

from tff_transfer.algorithms import one_round, rows
from tff_transfer.algorithms.method import Client, Context, Method
from tff_transfer.algorithms.ridge import PENALTIES, Ridge
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class PersonalRidge:
    """Personal ridge regression."""

    penalty: float = option(1.0, 'The L2 penalty of the head of all.', at_least=0)
    lam: float | None = option(
        None,
        'Lambda: how strongly own heads are held to the head of all; if not given, each'
        " client's best of 0.01, 0.1, ... 100000, its examples left out in turn.",
        above=0,
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        choices = PENALTIES if self.lam is None else (self.lam,)

        def adapt(weights, client) -> Client:
            examples = rows.gathered(client.batches).examples
            x, labels = one_round.precise(context, **examples)
            return client._replace(kept=_own_head(weights, x, labels, choices))

        return dataclasses.replace(
            Ridge(self.penalty).build(context),
            broadcast=lambda server: server.weights,
            adapt=adapt,
            personal=lambda weights, client: client.kept,
        )


def _own_head(weights: tuple, x, labels, choices: tuple[float, ...]) -> tuple:
    """Returns the best of the heads of some lambdas.

    Args:
      weights: Kernel float32 [size, classes] and bias float32 [classes] of all.
      x: The client's features, float64 [n, size].
      labels: One-hot, float64 [n, classes].
      choices: The lambdas.
    """
    start = tf.cast(tf.concat([weights[0], weights[1][None]], 0), tf.float64)
    x = tf.concat([x, tf.ones_like(x[:, :1])], 1)
    residual = 2 * labels - 1 - tf.matmul(x, start)
    values, left, right = tf.linalg.svd(x)
    squares, lam = values**2, np.array(choices)[:, None]
    share = squares / (squares + lam)  # [lambdas, rank]
    rotated = tf.matmul(left, residual, transpose_a=True)
    fitted = tf.matmul(left[None], share[:, :, None] * rotated)
    leverage = tf.matmul(share, left**2, transpose_b=True)  # [lambdas, n]
    errors = (residual - fitted) / (1 - leverage)[:, :, None]
    best = tf.argmin(tf.reduce_sum(errors**2, [1, 2]))
    scale = values / (squares + tf.gather(lam, best))
    moved = start + tf.matmul(right, scale[:, None] * rotated)
    return tf.cast(moved[:-1], tf.float32), tf.cast(moved[-1], tf.float32)

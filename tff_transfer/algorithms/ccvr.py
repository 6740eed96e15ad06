"""CCVR: the server retrains the last layer on features that it draws itself.

Luo et al. 2021, "No fear of heterogeneity: classifier calibration for federated
learning with non-IID data", section 4: federated averaging trains all; then each client
describes what its examples of each class are in front of the last layer, the server
makes means and covariances of all clients' (equations 3 and 4), draws virtual features
from these normal distributions and trains the last layer on them.

The paper calibrates once, after training. Here each round leaves a calibrated model
beside the averaged one, which goes on: clients describe their examples by the weights
that they get, before they train, and what is evaluated after a round are these weights
with a last layer that was calibrated for them. So a run of some rounds is one round
less of federated averaging, and the paper's calibration. What a client sends are sums,
in float64, so that nobody need see those of one client.
"""

import dataclasses
from typing import Any, NamedTuple

import tensorflow as tf

from tff_transfer import randomness
from tff_transfer.algorithms import descent, fed_avg, local, prototype
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.algorithms.rows import Rows
from tff_transfer.errors import UserError
from tff_transfer.options import option

# Virtual features of a batch.
BATCH_SIZE = 64
# What is added to each variance, as a share of the mean one: with few examples a
# covariance has directions without any, in which it has no factor.
RIDGE = 1e-6


class Server(NamedTuple):
    """What the server has.

    Attributes:
      weights: Those of federated averaging.
      optimizer: The state of its optimizer.
      calibrated: The weights that the clients of the last round got, with a last layer
        that is calibrated.
    """

    weights: tuple
    optimizer: Any
    calibrated: tuple


@dataclasses.dataclass(frozen=True)
class CCVR:
    """Classifier calibration with virtual representations."""

    features: int = option(
        100, 'Virtual features of each class that the server draws.', at_least=1
    )
    epochs: int = option(
        10,
        "Passes over them, by the clients' optimizer, anew in each round.",
        at_least=0,
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        context.check_last_dense('CCVR')
        if context.model.statistics is not None:
            raise UserError(
                'CCVR calibrates weights of the round before, for which BatchNorm'
                ' layers that are trained have no statistics; use --batch_norm=frozen'
                ' or group_norm'
            )

        def client_update(weights, client):
            found = prototype.represented_sums(context, weights, client, _moments)
            trained = local.train(context, weights, client)
            return local.update(context, client, trained, sums=found)

        def server_update(server, aggregate):
            after = fed_avg.server_step(context, server, aggregate)
            normals = _normals(aggregate.sums)
            drawn = _drawn(context, normals, aggregate.round, self)
            last = _retrained(context, server.weights[-2:], normals.known, *drawn)
            return Server(*after, (*server.weights[:-2], *last))

        def started(weights):
            return Server(*fed_avg.server_from(context, weights), weights)

        return Method(
            lambda: started(tuple(map(tf.convert_to_tensor, context.initial))),
            lambda server: server.weights,
            client_update,
            server_update,
            evaluated=lambda server: server.calibrated,
            with_weights=lambda server, weights: server._replace(
                weights=weights, calibrated=weights
            ),
        )


def _moments(x, labels) -> dict:
    """Returns `prototype.class_sums` and of each class the sum of `x x^T`, float64."""
    x, labels = (tf.cast(each, tf.float64) for each in (x, labels))
    classes, size = labels.shape[1], x.shape[1]
    of_class = tf.reshape(labels[:, :, None] * x[:, None], [-1, classes * size])
    squares = tf.matmul(of_class, x, transpose_a=True)
    return {
        'squares': tf.reshape(squares, [classes, size, size]),
        **prototype.class_sums(x, labels),
    }


class _Normals(NamedTuple):
    """A normal distribution of each class.

    Attributes:
      means: float64 [classes, size].
      factors: Lower triangles whose squares are the covariances, float64
        [classes, size, size].
      known: Whether there is one, bool [classes]: of two examples and more.
    """

    means: Any
    factors: Any
    known: Any


def _normals(sums) -> _Normals:
    """Returns the distributions of `_moments` of all clients' examples."""
    counts, squares = sums['counts'], sums['squares']
    known = counts > 1
    means = tf.math.divide_no_nan(sums['sums'], counts[:, None])
    apart = squares - counts[:, None, None] * means[:, :, None] * means[:, None]
    covariances = tf.where(
        known[:, None, None],
        tf.math.divide_no_nan(apart, (counts - 1)[:, None, None]),
        0.0,
    )
    size = means.shape[1]
    # Where nothing varies there is something to factor still.
    ridge = tf.maximum(RIDGE * tf.linalg.trace(covariances) / size, RIDGE**2)
    eye = tf.eye(size, dtype=tf.float64)
    factors = tf.linalg.cholesky(covariances + ridge[:, None, None] * eye)
    return _Normals(means, factors, known)


def _drawn(context: Context, normals: _Normals, round_number, options: CCVR) -> tuple:
    """Returns virtual features, their classes, and the order of training on them.

    Returns:
      float32 [rows, size]; int32 [rows]; and the numbers of rows, int32
      [epochs * rows].
    """
    classes, size = normals.means.shape
    draw = randomness.generator(context.seed, 'virtual features')
    of_normals, of_orders = map(int, draw.integers(2**31, size=2))
    normal = tf.random.stateless_normal(
        [classes, options.features, size], [of_normals, round_number], dtype=tf.float64
    )
    x = normals.means[:, None] + tf.matmul(normal, normals.factors, transpose_b=True)
    rows = classes * options.features
    orders = [
        tf.random.experimental.stateless_shuffle(
            tf.range(rows), [of_orders, round_number * options.epochs + epoch]
        )
        for epoch in range(options.epochs)
    ]
    return (
        tf.cast(tf.reshape(x, [rows, size]), tf.float32),
        tf.repeat(tf.range(classes), options.features),
        tf.concat([tf.zeros([0], tf.int32), *orders], 0),
    )


def _retrained(context: Context, last: tuple, known, x, labels, order) -> tuple:
    """Returns the last layer after training on virtual features.

    A class that is not known keeps its weights: its features count for nothing, and its
    logit is not in the softmax.
    """
    never = tf.where(known, 0.0, prototype.NEVER)

    def loss(at, batch):
        classes = tf.gather(labels, batch)
        counts = tf.cast(tf.gather(known, classes), tf.float32)
        logits = tf.matmul(tf.gather(x, batch), at[0]) + at[1] + never
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)
        return tf.math.divide_no_nan(
            tf.reduce_sum(counts * losses), tf.reduce_sum(counts)
        )

    rows = Rows(order, tf.constant(0), tf.size(order), BATCH_SIZE)
    return descent.descended(context.client_optimizer, last, rows, loss)

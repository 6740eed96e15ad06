"""Linear classifiers that one round computes, of sums over the clients' examples.

No example travels and nothing is trained: what a client sends are sums in float64, and
the server gets the sums over clients alone (`tff.federated_sum`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tff_transfer.algorithms.method import Client, Context, Method, Update
from tff_transfer.errors import UserError

# Rows that a client adds up at once; the sums do not hang on it.
BATCH_SIZE = 128


def of_sums(
    context: Context,
    sums_of: Callable[[Any, Any], Mapping[str, Any]],
    initial: Any,
    solve: Callable[[Mapping[str, Any]], Any],
    **more: Callable,
) -> Method:
    """Makes a method whose round gives what its clients' sums determine.

    Args:
      context: What it is made for: a model of one dense layer on vectors.
      sums_of: Makes the sums of a batch, by name, of its vectors, float64
        [batch, size], and its labels, one-hot, float64 [batch, classes]. `counts`,
        float64 [classes], is one of them.
      initial: The server's state at the start.
      solve: Makes its state of the sums over all clients.
      **more: Other functions of the method.

    Raises:
      UserError: The model is another one.
    """
    _sizes(context)

    def client_update(message, client):
        del message
        sums = summed(context, sums_of, client)
        return Update(
            delta=(),
            weight=tf.constant(1.0),
            sums=sums,
            kept=client.kept,
            personal=client.personal,
            moments=(),
            metrics=context.model.functional.initialize_metrics_state(),
            examples=tf.cast(tf.reduce_sum(sums['counts']), tf.float32),
        )

    return Method(
        lambda: initial,
        lambda server: (),
        client_update,
        lambda server, aggregate: solve(aggregate.sums),
        **more,
    )


def summed(context: Context, sums_of: Callable, client: Client) -> Mapping[str, Any]:
    """Returns the sums of a client's batches; `sums_of` is that of `of_sums`."""
    size, _ = _sizes(context)

    def of_batch(**batch):
        return sums_of(*precise(context, **batch))

    return client.batches.reduce(
        of_batch(x=tf.zeros([0, size]), y=tf.zeros([0], tf.int32)),
        lambda sums, batch: tf.nest.map_structure(tf.add, sums, of_batch(**batch)),
    )


def precise(context: Context, x, y) -> tuple[Any, Any]:
    """Returns vectors and labels as `sums_of` has them, one-hot, both in float64."""
    _, classes = _sizes(context)
    return tf.cast(x, tf.float64), tf.one_hot(y, classes, dtype=tf.float64)


def _sizes(context: Context) -> tuple[int, int]:
    """Returns the sizes of the vectors and of the logits of a linear model."""
    spec = context.model.functional.input_spec['x']
    shapes = [weight.shape for weight in context.initial]
    linear = (
        isinstance(spec, tf.TensorSpec)
        and spec.shape.rank == 2
        and spec.dtype == tf.float32
        and [len(shape) for shape in shapes] == [2, 1]
        and shapes[0] == (spec.shape[1], *shapes[1])
    )
    if not linear:
        raise UserError(
            'what one round computes is a dense layer on vectors, but the model is'
            ' another one; use a linear head on a frozen backbone'
        )
    return shapes[0]

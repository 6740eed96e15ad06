"""A client's training of a model whose BatchNorm uses the statistics of its batches."""

import collections
from collections.abc import Callable

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import batch_norm
from tff_transfer.models import Model

Trained = collections.namedtuple('Trained', 'delta moments weight metrics')


def type_of(arrays) -> tff.Type:
    """Returns the TFF type of a structure of arrays."""
    specs = tf.nest.map_structure(
        lambda array: tf.TensorSpec(array.shape, array.dtype), arrays
    )
    return tff.types.tensorflow_to_type(specs)


def data_type(model: Model) -> tff.SequenceType:
    """Returns the TFF type of a client's batches."""
    batch = tff.types.tensorflow_to_type(model.functional.input_spec)
    return tff.SequenceType(batch)


def aggregated(model: Model, metrics):
    """Returns clients' unfinalized metrics as TFF reports those of training."""
    finalize = tff.learning.metrics.sum_then_finalize(model.functional.finalize_metrics)
    return tff.federated_zip(collections.OrderedDict(train=finalize(metrics)))


def build(model: Model, optimizer: tff.learning.optimizers.Optimizer) -> Callable:
    """Builds one pass of training over a client's batches.

    Args:
      model: A model with `statistics`.
      optimizer: The client's optimizer, which starts anew in each round.

    Returns:
      A `tf.function` of (trained weights, statistics, dataset) to `Trained`: `delta`,
      the weights before minus those after; `moments` of all examples about the given
      statistics; `weight`, the number of examples, float32; and the unfinalized
      `metrics`. As in `tff.learning.algorithms.build_weighted_fed_avg` all is zero
      where a weight did not stay finite; there and without examples the weight is 0.
    """
    functional = model.functional

    def reduce(state, batch, origin):
        weights, optimizer_state, sums, examples, metrics = state
        with tf.GradientTape() as tape:
            tape.watch(weights)
            logits, measured = model.statistics.step((weights, origin), batch['x'])
            loss = functional.loss(logits, batch['y'])
        optimizer_state, weights = optimizer.next(
            optimizer_state, weights, tape.gradient(loss, weights)
        )
        count = tf.shape(logits)[0]
        sums = tuple(
            total + tf.cast(count, tf.float32) * moment
            for total, moment in zip(
                sums, batch_norm.moments(measured, origin), strict=True
            )
        )
        output = tff.learning.models.BatchOutput(
            loss=loss, predictions=logits, num_examples=count
        )
        metrics = functional.update_metrics_state(
            metrics, batch_output=output, labels=batch['y']
        )
        return weights, optimizer_state, sums, examples + count, metrics

    @tf.function
    def train(weights, statistics, dataset):
        specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, weights)
        start = (
            weights,
            optimizer.initialize(specs),
            tf.nest.map_structure(tf.zeros_like, statistics),
            tf.constant(0),
            functional.initialize_metrics_state(),
        )
        after, _, sums, examples, metrics = dataset.reduce(
            start, lambda state, batch: reduce(state, batch, statistics)
        )
        delta = tf.nest.map_structure(tf.subtract, weights, after)
        finite = tf.reduce_all(
            [tf.reduce_all(tf.math.is_finite(each)) for each in [*delta, *sums]]
        )

        def kept(values):
            return tf.nest.map_structure(
                lambda value: tf.where(finite, value, tf.zeros_like(value)), values
            )

        count = tf.cast(examples, tf.float32)
        moments = tuple(tf.math.divide_no_nan(total, count) for total in sums)
        return Trained(kept(delta), kept(moments), kept(count), kept(metrics))

    return train

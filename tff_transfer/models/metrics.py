"""Loss and accuracy of a classifier, as the pure functions that TFF's models take.

A state has for each metric the sum over examples and their number, and for `clients`
whether there was a batch: summed, of how many clients the others are. The same of Keras
metrics by `tff.learning.metrics.create_functional_metric_fns` takes a quarter of a
second more to build, and computes in each step what the loss has computed already.
"""

import collections

import tensorflow as tf
import tensorflow_federated as tff

# The metrics that are means over examples.
MEANS = ('loss', 'accuracy')

# None of these functions has control flow for AutoGraph to look for.
_as_it_is = tf.autograph.experimental.do_not_convert


@_as_it_is
def cross_entropy(
    logits: tf.Tensor, labels: tf.Tensor, sample_weight: tf.Tensor | None = None
) -> tf.Tensor:
    """Returns the mean sparse categorical cross-entropy of a batch.

    Args:
      logits: float32 [batch, classes].
      labels: int32 [batch].
      sample_weight: float32 [batch].
    """
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return loss(labels, logits, sample_weight)


@_as_it_is
def initialize() -> collections.OrderedDict:
    """Returns the state before any example."""
    means = {name: (tf.zeros([]), tf.zeros([])) for name in MEANS}
    return collections.OrderedDict(means, clients=tf.zeros([]))


@_as_it_is
def update(
    state: collections.OrderedDict,
    labels: tf.Tensor,
    batch_output: tff.learning.models.BatchOutput,
    sample_weight: tf.Tensor | None = None,
) -> collections.OrderedDict:
    """Returns the state with a batch more.

    Args:
      state: The state before.
      labels: int32 [batch].
      batch_output: Its `predictions` are logits, float32 [batch, classes].
      sample_weight: Not used, as in TFF's own.
    """
    del sample_weight
    labels, logits = tf.cast(labels, tf.int64), batch_output.predictions
    of_examples = {
        'loss': tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits),
        # Not ==, which compares objects, not values, in TFF's graphs.
        'accuracy': tf.cast(tf.equal(labels, tf.argmax(logits, -1)), tf.float32),
    }
    count = tf.cast(tf.size(labels), tf.float32)
    means = {
        name: (
            state[name][0] + tf.reduce_sum(of_examples[name]),
            state[name][1] + count,
        )
        for name in MEANS
    }
    # A constant, so that it costs a step nothing.
    return collections.OrderedDict(means, clients=tf.ones([]))


@_as_it_is
def finalize(state: collections.OrderedDict) -> collections.OrderedDict:
    """Returns the means over all examples, 0 without any, and the number of clients."""
    means = {name: tf.math.divide_no_nan(*state[name]) for name in MEANS}
    return collections.OrderedDict(means, clients=state['clients'])

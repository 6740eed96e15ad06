"""A task's measures as the pure functions that TFF's models take.

A state has for each measure the sum over examples and their number, and for `clients`
whether there was a batch: summed, of how many clients the others are. The same of Keras
metrics by `tff.learning.metrics.create_functional_metric_fns` takes a quarter of a
second more to build, and computes in each step what the loss has computed already.
"""

import collections
from collections.abc import Callable

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.models.task import Task

# None of these functions has control flow for AutoGraph to look for.
_as_it_is = tf.autograph.experimental.do_not_convert


def of_task(task: Task) -> tuple[Callable, Callable, Callable]:
    """Returns the functions `initialize`, `update` and `finalize` of a task."""

    @_as_it_is
    def initialize() -> collections.OrderedDict:
        """Returns the state before any example."""
        means = {name: (tf.zeros([]), tf.zeros([])) for name in task.measures}
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
          batch_output: Its `predictions` are the model's outputs.
          sample_weight: Not used, as in TFF's own.
        """
        del sample_weight
        of_examples = task.measure(batch_output.predictions, labels)
        count = tf.cast(tf.size(labels), tf.float32)
        means = {
            name: (
                state[name][0] + tf.reduce_sum(of_examples[name]),
                state[name][1] + count,
            )
            for name in task.measures
        }
        # A constant, so that it costs a step nothing.
        return collections.OrderedDict(means, clients=tf.ones([]))

    @_as_it_is
    def finalize(state: collections.OrderedDict) -> collections.OrderedDict:
        """Returns means over all examples, 0 without any, and how many clients."""
        means = {name: tf.math.divide_no_nan(*state[name]) for name in task.measures}
        return collections.OrderedDict(means, clients=state['clients'])

    return initialize, update, finalize

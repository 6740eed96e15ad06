"""A client's examples as arrays, for methods that pass over them in their own way."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf


class Rows(NamedTuple):
    """Some of a client's examples; `reduce` takes their batches as a dataset's does.

    Attributes:
      examples: Arrays [n, ...] in the structure of the model's input_spec.
      first: The first of the rows that count, int32 [].
      last: The one after the last, int32 [].
      batch_size: Rows of a batch, of which the last may have fewer, int32 [].
    """

    examples: Any
    first: Any
    last: Any
    batch_size: Any

    @property
    def size(self):
        """How many rows count, int32 []."""
        return self.last - self.first

    def to(self, row) -> 'Rows':
        """Returns those before a row."""
        return self._replace(last=row)

    def after(self, row) -> 'Rows':
        """Returns those from a row on."""
        return self._replace(first=row)

    def reduce(self, start: Any, step: Callable) -> Any:
        """Returns the state after `step(state, batch)` for all batches, in order."""

        def body(row, state):
            after = tf.minimum(row + self.batch_size, self.last)
            batch = tf.nest.map_structure(lambda a: a[row:after], self.examples)
            return after, step(state, batch)

        _, state = tf.while_loop(
            lambda row, _: row < self.last,
            body,
            (self.first, start),
            parallel_iterations=1,
        )
        return state


def gathered(batches: tf.data.Dataset) -> Rows:
    """Returns the examples of some batches, whose largest is what a batch has.

    The dataset is read twice: to loop over it again in each pass would cost the
    compiled runtime a pipeline of `tf.data` a pass.
    """

    def measure(state, batch):
        count, largest = state
        size = tf.size(batch['y'])
        return count + size, tf.maximum(largest, size)

    def put(state, batch):
        row, examples = state
        size = tf.size(batch['y'])
        places = tf.range(row, row + size)[:, tf.newaxis]
        examples = tf.nest.map_structure(
            lambda array, new: tf.tensor_scatter_nd_update(array, places, new),
            examples,
            batch,
        )
        return row + size, examples

    count, largest = batches.reduce((0, 0), measure)
    zeros = tf.nest.map_structure(
        lambda spec: tf.zeros([count, *spec.shape[1:]], spec.dtype),
        batches.element_spec,
    )
    _, examples = batches.reduce((0, zeros), put)
    return Rows(examples, tf.constant(0), count, largest)

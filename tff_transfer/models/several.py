"""One of several networks: which one, its weights say.

So clients may have networks of different architectures in one computation, where
nothing of their weights is averaged. The trained weights are `which`, float32
[networks], one-hot, which has no gradient, and one vector of the largest network's
size, of which a smaller one takes the first numbers: a client keeps, and its optimizer
moves, as many numbers as the largest network has. A step computes the client's own
network alone.
"""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tff_transfer.models.model import Model, functional_model


class View(NamedTuple):
    """What a network takes of a row: some of its numbers, in a shape.

    Attributes:
      first: The number of the first.
      shape: Of one example.
    """

    first: int
    shape: tuple[int, ...]

    def of(self, rows):
        """Returns it of rows, [batch, size] to [batch, *shape]."""
        last = self.first + math.prod(self.shape)
        return tf.reshape(rows[:, self.first : last], [-1, *self.shape])


def together(members: Sequence[Model], views: Sequence[View], size: int) -> Model:
    """Makes a model that is one of several, and starts as the first.

    Args:
      members: Each of them; nothing in their training is drawn, and none has
        statistics.
      views: What each takes of a row.
      size: Of a row.

    Returns:
      The model, whose inputs are rows, float32 [batch, size].
    """
    members = tuple(members)
    shapes = [[w.shape for w in each.initial_weights] for each in members]

    def branch(number, flat, x, training):
        def outputs():
            weights, end = [], 0
            for shape in shapes[number]:
                start, end = end, end + math.prod(shape)
                weights.append(tf.reshape(flat[start:end], shape))
            return members[number].functional.predict_on_batch(
                (tuple(weights), ()), views[number].of(x), training=training
            )

        return outputs

    @tf.function(autograph=False)
    def predict(model_weights, x, training):
        (which, flat), _ = model_weights
        return tf.switch_case(
            tf.argmax(which, output_type=tf.int32),
            [branch(n, flat, x, training) for n in range(len(members))],
        )

    pairs = zip(members, views, strict=True)
    told = [f'{each.fingerprint} {view}' for each, view in pairs]
    rows = tf.TensorSpec([None, size])
    return Model(
        functional_model(_start(members, 0), predict, rows, task=members[0].task),
        None,
        False,
        hashlib.sha256(' '.join(told).encode()).hexdigest(),
        task=members[0].task,
        members=members,
    )


def started_as(model: Model, number: int) -> Model:
    """Returns a model of `together` that starts as one of its members."""
    functional = model.functional
    started = functional_model(
        _start(model.members, number),
        functional.predict_on_batch,
        functional.input_spec['x'],
        task=model.task,
    )
    return dataclasses.replace(model, functional=started)


def _start(members: Sequence[Model], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the weights of one of several as those of `together`."""
    sizes = [sum(w.size for w in each.initial_weights) for each in members]
    flat = np.zeros(max(sizes), np.float32)
    own = [np.ravel(weight) for weight in members[number].initial_weights]
    flat[: sizes[number]] = np.concatenate(own)
    return np.eye(len(members), dtype=np.float32)[number], flat

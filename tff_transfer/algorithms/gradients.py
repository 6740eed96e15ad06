"""The gradient of a batch's loss, and what clients follow instead of it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tff_transfer.algorithms.method import Client, Context
from tff_transfer.algorithms.noisy_gradients import noisy_mean


class Gradient(NamedTuple):
    """The gradient of a batch's loss.

    Attributes:
      shared: With respect to the shared weights.
      personal: With respect to the client's own.
      loss: The loss, float32 [].
      logits: float32 [batch, classes].
      measured: BatchNorm's statistics of the batch.
    """

    shared: tuple
    personal: tuple
    loss: Any
    logits: Any
    measured: tuple


# Gives the gradient of a batch at some shared weights, of another `loss` if that is
# given; `direction`s call it.
GradientOf = Callable[..., Gradient]

# What a method follows instead of the gradient: of (gradient_of, weights, batch).
Direction = Callable[[GradientOf, tuple, Any], Gradient]


def plain(gradient_of: GradientOf, weights: tuple, batch) -> Gradient:
    """The gradient as it is, as federated averaging follows it."""
    return gradient_of(weights, batch)


def corrected(correct: Callable[[tuple, tuple], tuple]) -> Direction:
    """Returns the direction that a function of (gradient, weights) makes of it."""

    def direction(gradient_of, weights, batch):
        found = gradient_of(weights, batch)
        return found._replace(shared=correct(found.shared, weights))

    return direction


def only(context: Context, numbers: frozenset[int]) -> Direction:
    """Returns the direction in which some of the model's trained weights alone move.

    Args:
      context: Which weights are personal.
      numbers: The numbers of those that move (`Context.numbers`).
    """

    def direction(gradient_of, weights, batch):
        found = gradient_of(weights, batch)
        shared, personal = context.split(
            [
                gradient if number in numbers else tf.zeros_like(gradient)
                for number, gradient in enumerate(
                    context.join(found.shared, found.personal)
                )
            ]
        )
        return found._replace(shared=shared, personal=personal)

    return direction


def beside(first: Direction, second: Direction, count: int) -> Direction:
    """Returns the direction of two models that are trained on the same batches.

    Args:
      first: What the first `count` of the weights follow; loss, logits and the client's
        own weights are of this one.
      second: What the others follow.
      count: How many weights each model has.
    """

    def direction(gradient_of, weights, batch):
        found = first(gradient_of, weights[:count], batch)
        other = second(gradient_of, weights[count:], batch)
        return found._replace(shared=(*found.shared, *other.shared))

    return direction


def gradient_function(
    context: Context, client: Client, loss=None, regulariser=None, total: bool = False
) -> Callable:
    """Returns the function of (shared, personal, batch) to a `Gradient`.

    As `loss` it takes, for one batch, another function than the one given here.

    Args:
      context: The model and which of its weights are personal.
      client: The client, whose BatchNorm statistics hold.
      loss: A function of (logits, labels) to use instead of the model's.
      regulariser: A function of (representation, batch) whose value is added to it.
      total: Whether the gradient is of the sum over a batch's examples.
    """
    functional, statistics = context.model.functional, context.model.statistics
    teacher, loss = context.teacher, loss or functional.loss
    represent = context.model.representation

    def forward(trained, x):
        """Returns logits, representation if it is needed, and statistics."""
        if regulariser is not None or teacher is not None:
            return represent((trained, client.statistics), x, training=True)
        if statistics is not None:
            logits, measured = statistics.step((trained, client.statistics), x)
            return logits, None, measured
        logits = functional.predict_on_batch((trained, ()), x, training=True)
        return logits, None, ()

    def gradient(shared, personal, batch, loss=loss) -> Gradient:
        if teacher is not None:
            pretrained = functional.initial_weights
            _, taught, _ = represent(pretrained, batch['x'], training=False)
        with tf.GradientTape() as tape:
            tape.watch((shared, personal))
            trained = context.join(shared, personal)
            logits, representation, measured = forward(trained, batch['x'])
            value = loss(logits, batch['y'])
            if regulariser is not None:
                value += regulariser(representation, batch)
            if teacher is not None:
                value += teacher.apart(taught, representation)
            if total:
                value *= tf.cast(tf.shape(logits)[0], tf.float32)
        found = tape.gradient(value, (shared, personal), unconnected_gradients='zero')
        return Gradient(*found, value, logits, measured)

    if context.gradient_noise is None:
        return gradient
    return _noisy(context, gradient, loss)


def _noisy(context: Context, gradient: Callable, loss: Callable) -> Callable:
    """Returns a function like `gradient`, of the mean of clipped ones and noise."""

    def noisy(shared, personal, batch) -> Gradient:
        def of_example(example):
            found = gradient(shared, personal, example)
            return (*found.shared, *found.personal), found.logits

        mean, logits = noisy_mean(of_example, context.gradient_noise, batch)
        count = len(shared)
        return Gradient(
            mean[:count], mean[count:], loss(logits, batch['y']), logits, ()
        )

    return noisy


def mean_gradient(context: Context, weights: tuple, client: Client) -> tuple:
    """Returns the gradient over a client's examples, and how many there are.

    Nothing is trained or measured: a batch costs the gradient and one addition.

    Args:
      context: The model.
      weights: The shared weights, with respect to which it is taken.
      client: The client.

    Returns:
      The mean over examples, a tuple like `weights`, and their number, float32 [].
    """
    gradient = gradient_function(context, client, total=True)

    def add(total, batch):
        sums, examples = total
        found = gradient(weights, client.personal, batch)
        count = tf.cast(tf.shape(found.logits)[0], tf.float32)
        sums = tuple(s + g for s, g in zip(sums, found.shared, strict=True))
        return sums, examples + count

    start = (tuple(map(tf.zeros_like, weights)), tf.constant(0.0))
    sums, examples = client.batches.reduce(start, add)
    return tuple(tf.math.divide_no_nan(s, examples) for s in sums), examples

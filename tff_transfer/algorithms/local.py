"""A client's training: the loop over its batches that nearly every method has."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.algorithms.client_rates import rate_factor, scheduled
from tff_transfer.algorithms.gradients import Direction, gradient_function, plain
from tff_transfer.algorithms.method import Client, Context, Update
from tff_transfer.networks import batch_norm


class Trained(NamedTuple):
    """What a client's training comes to.

    Attributes:
      delta: The shared weights before minus those after.
      personal: Its own weights after.
      steps: The number of batches, float32 [].
      examples: The number of examples, float32 [].
      moments: BatchNorm's moments of all examples about `Client.statistics`.
      metrics: The model's unfinalized metrics.
      optimizer: The state of the optimizer afterwards.
      watched: The sum of what was watched, zero if nothing was.
    """

    delta: tuple
    personal: tuple
    steps: Any
    examples: Any
    moments: tuple
    metrics: Any
    optimizer: Any
    watched: Any


def difference(first: tuple, second: tuple) -> tuple:
    """Returns weights less others of the same shapes, or less a delta of theirs."""
    return tuple(a - b for a, b in zip(first, second, strict=True))


def train(
    context: Context,
    weights: tuple,
    client: Client,
    *,
    direction: Direction = plain,
    loss: Callable | None = None,
    regulariser: Callable | None = None,
    optimizer: tff.learning.optimizers.Optimizer | None = None,
    optimizer_state: Any = None,
    watch: Callable | None = None,
    unwatched: Any = 0.0,
) -> Trained:
    """Trains on each of a client's batches in turn.

    Args:
      context: What is trained, and by which optimizer.
      weights: The shared weights to start from.
      client: The client.
      direction: What is followed instead of the gradient.
      loss: A function of (logits, labels), float32 [batch, classes] and int32
        [batch], to use instead of the model's.
      regulariser: A function of (representation, batch) whose value, float32 [], is
        added to the loss (see `Model.representation`).
      optimizer: Instead of the context's, with a rate of its own in this round.
      optimizer_state: What the optimizer goes on from; it starts anew if not given.
      watch: A function of a batch and its `Gradient` to numbers, whose sum over
        batches is wanted too.
      unwatched: What these begin with.

    Returns:
      What comes of it; without batches, zeros and what there was.
    """
    functional = context.model.functional
    factor = rate_factor(context, client) if optimizer is None else None
    optimizer = optimizer or context.client_optimizer
    gradient = gradient_function(context, client, loss, regulariser)
    shared = len(weights)

    def step(state, batch):
        values, optimizer_state, steps, examples, sums, metrics, watched = state
        personal = values[shared:]
        found = direction(
            lambda at, batch, **other: gradient(at, personal, batch, **other),
            values[:shared],
            batch,
        )
        optimizer_state, values = optimizer.next(
            optimizer_state, values, (*found.shared, *found.personal)
        )
        count = tf.shape(found.logits)[0]
        weight = tf.cast(count, tf.float32)
        moments = batch_norm.moments(found.measured, client.statistics)
        sums = tuple(s + weight * m for s, m in zip(sums, moments, strict=True))
        output = tff.learning.models.BatchOutput(
            loss=found.loss, predictions=found.logits, num_examples=count
        )
        metrics = functional.update_metrics_state(
            metrics, batch_output=output, labels=batch['y']
        )
        if watch is not None:
            watched = tf.nest.map_structure(tf.add, watched, watch(batch, found))
        examples += weight
        return values, optimizer_state, steps + 1, examples, sums, metrics, watched

    before = (*weights, *client.personal)
    if optimizer_state is None:
        specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, before)
        optimizer_state = optimizer.initialize(specs)
    start = (
        before,
        scheduled(optimizer, optimizer_state, factor),
        tf.constant(0.0),
        tf.constant(0.0),
        tf.nest.map_structure(tf.zeros_like, client.statistics),
        functional.initialize_metrics_state(),
        tf.nest.map_structure(tf.convert_to_tensor, unwatched),
    )
    after, state, steps, examples, sums, metrics, watched = client.batches.reduce(
        start, step
    )
    delta = difference(weights, after[:shared])
    moments = tuple(tf.math.divide_no_nan(total, examples) for total in sums)
    own = after[shared:]
    return Trained(delta, own, steps, examples, moments, metrics, state, watched)


def predictor(context: Context, weights: tuple, client: Client) -> Callable:
    """Returns the function of a batch to logits as in evaluation, [batch, classes].

    Args:
      context: The model.
      weights: The shared weights.
      client: The client, whose own weights and BatchNorm statistics hold.
    """
    all_weights = context.join(weights, client.personal), client.statistics

    def of_batch(batch):
        return context.model.functional.predict_on_batch(
            all_weights, batch['x'], training=False
        )

    return of_batch


def summed_loss(context: Context, weights: tuple, client: Client) -> Callable:
    """Returns the function of a batch to the sum of its losses, float32 []."""
    predict = predictor(context, weights, client)

    def of_batch(batch):
        logits = predict(batch)
        count = tf.cast(tf.shape(logits)[0], tf.float32)
        return count * context.model.functional.loss(logits, batch['y'])

    return of_batch


def label_counts(client: Client, classes: int):
    """Returns how many of a client's examples each class has, float32 [classes]."""

    def add(total, batch):
        return total + tf.reduce_sum(tf.one_hot(batch['y'], classes), axis=0)

    return client.batches.reduce(tf.zeros([classes]), add)


def weight_of(context: Context, examples):
    """Returns a client's weight in means over clients, float32 []."""
    if context.weighting == 'uniform':
        return tf.cast(examples > 0, tf.float32)
    return examples


def update(context: Context, client: Client, trained: Trained, **changed) -> Update:
    """Returns a client's update of what its training came to.

    Args:
      context: Says how clients are weighted.
      client: The client.
      trained: What its training came to.
      **changed: Fields of `Update` that differ from: the delta of the weights, by
        the context's weighting, without sums, and kept what there was.
    """
    of_training = Update(
        trained.delta,
        weight_of(context, trained.examples),
        {},
        client.kept,
        trained.personal,
        trained.moments,
        trained.metrics,
        trained.examples,
    )
    return of_training._replace(**changed)


def update_beside(
    context: Context, weights: tuple, client: Client, direction: Direction
) -> Update:
    """Returns the update of a client that trains weights of its own beside the shared.

    Args:
      context: What is trained, and how clients are weighted.
      weights: The shared weights.
      client: The client; what it keeps are weights of the same number or fewer.
      direction: What both follow, of all of them together: the shared ones first.
    """
    trained = train(context, (*weights, *client.kept), client, direction=direction)
    delta, moved = trained.delta[: len(weights)], trained.delta[len(weights) :]
    own = difference(client.kept, moved)
    return update(context, client, trained, delta=delta, kept=own)

"""A client's training: the loop over its batches that nearly every method has."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.algorithms.method import Client, Context, Update
from tff_transfer.algorithms.noisy_gradients import noisy_mean
from tff_transfer.errors import UserError
from tff_transfer.networks import batch_norm


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


# Gives the gradient of a batch at some shared weights, of another `loss` if that is
# given; `direction`s call it.
GradientOf = Callable[..., Gradient]

# What a method follows instead of the gradient: of (gradient_of, weights, batch).
Direction = Callable[[GradientOf, tuple, Any], Gradient]


def difference(first: tuple, second: tuple) -> tuple:
    """Returns weights less others of the same shapes, or less a delta of theirs."""
    return tuple(a - b for a, b in zip(first, second, strict=True))


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


def scheduled(optimizer, state, factor):
    """Returns an optimizer's state with its first learning rate times a factor.

    It stays as it is where the factor is None.
    """
    if factor is None:
        return state
    rate = _first_hparams(optimizer)['learning_rate'] * factor
    hparams = {**optimizer.get_hparams(state), 'learning_rate': rate}
    return optimizer.set_hparams(state, hparams)


def rate_factor(context: Context, client: Client):
    """Returns what a client's learning rate is multiplied by in its round.

    That is by the schedule and by its own rate, float32 []; None without either.
    """
    of_client = None if isinstance(client.rate, tuple) else client.rate
    if context.client_schedule is None:
        return of_client
    factor = context.client_schedule(client.round)
    return factor if of_client is None else factor * of_client


def _first_hparams(optimizer):
    """Returns what an optimizer was built with: a state may be of a later round."""
    return optimizer.get_hparams(optimizer.initialize(tf.TensorSpec([])))


def sgd_momentum(context: Context, who: str) -> float:
    """Returns the momentum of the clients' SGD.

    Raises:
      UserError: The clients' optimizer is another one, for which `who`, a method,
        is not defined.
    """
    optimizer = context.client_optimizer
    if not isinstance(optimizer, type(tff.learning.optimizers.build_sgdm())):
        raise UserError(
            f'{who} is defined for SGD on the clients; use --client_optimizer=sgd'
        )
    return _first_hparams(optimizer).get('momentum', 0.0)


def rate_of(context: Context, client: Client) -> Any:
    """Returns the learning rate of a client's optimizer in its round."""
    rate = _first_hparams(context.client_optimizer)['learning_rate']
    factor = rate_factor(context, client)
    return rate if factor is None else rate * factor


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

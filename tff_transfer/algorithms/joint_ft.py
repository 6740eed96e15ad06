"""Joint fine-tuning: clients fine-tune with early stopping, the server averages.

From a pretrained start each client fine-tunes what is trained, such as the last layers,
by small batches, and stops early by examples of its own that it never trains on: the
weights of the best validation loss stay, those that it got among them (Prechelt 1998,
"Early stopping - but when?", here by patience). They are averaged by numbers of
training examples, as in federated averaging (McMahan et al. 2017, algorithm 1), and
the average is where all start next.

The average has converged when the clients' validation loss at the weights that they
get has not become better for some rounds (`--early_stop_patience`).
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tff_transfer.algorithms import fed_avg, local, rows
from tff_transfer.algorithms.method import Client, Context, Method, Update
from tff_transfer.algorithms.rows import Rows
from tff_transfer.data.cohorts import num_held_out
from tff_transfer.options import option

# A client's summed validation loss, and of how many examples.
_SUMS = ('validation_loss', 'validation_examples')
# Finite, since a state that is not counts for nothing.
_NONE_YET = np.float32(np.finfo(np.float32).max)


class Server(NamedTuple):
    """What the server has.

    Attributes:
      weights: The shared trained weights.
      optimizer: The state of its optimizer.
      validation_loss: The mean over the validation examples of the last round's
        clients, at the weights that they got, float32 []; if they had none, what it
        was.
    """

    weights: tuple
    optimizer: Any
    validation_loss: Any


class Passes(NamedTuple):
    """Where a client is in its round.

    Attributes:
      done: Passes over its training examples so far, int32 [].
      since_best: How many of them there were since the best, int32 [].
      now: Shared and own weights.
      optimizer: The state of its optimizer.
      loss: The best validation loss, float32 [].
      best: Shared and own weights with which it was.
      moments: BatchNorm's moments in the last pass (see `local.Trained`).
      metrics: The model's unfinalized metrics of the last pass.
    """

    done: Any
    since_best: Any
    now: tuple[tuple, tuple]
    optimizer: Any
    loss: Any
    best: tuple[tuple, tuple]
    moments: tuple
    metrics: Any


@dataclasses.dataclass(frozen=True)
class JointFT:
    """Joint fine-tuning.

    A client's batches are those of one epoch, over which it passes `Context.epochs`
    times at most, in a round always in the same order. The last of its examples are its
    validation part: who makes its dataset keeps them last in each round, as
    `cohorts.training_cohort` does with `held_out`.
    """

    validation_fraction: float = option(
        0.2,
        "The share of a client's training examples, rounded down, that it stops early"
        ' by and never trains on.',
        at_least=0,
        below=1,
    )
    patience: int = option(
        3,
        'A client stops after so many passes without a better validation loss.',
        at_least=1,
    )
    parts: tuple[str, ...] = option(
        (), "The model's parts that stay with each client, if any."
    )

    def build(self, context: Context) -> Method:
        """Makes the method."""
        if self.parts:
            context.check_divided()

        def client_update(weights, client):
            examples = rows.gathered(client.batches)
            held = num_held_out(examples.last, self.validation_fraction)
            cut = examples.last - held
            training, validation = examples.to(cut), examples.after(cut)
            at_start = _loss(context, (weights, client.personal), client, validation)

            def one_more(passes):
                now = _trained(context, passes, client, training)
                loss = _loss(context, now.now, client, validation)
                # Without a validation part the last weights are the best.
                better = tf.logical_or(loss < passes.loss, tf.equal(held, 0))
                return (_judged(now, loss, better),)

            (passes,) = tf.while_loop(
                lambda passes: tf.logical_and(
                    passes.done < context.epochs, passes.since_best < self.patience
                ),
                one_more,
                (_start(context, weights, client, at_start),),
                parallel_iterations=1,
            )
            held, cut = (tf.cast(count, tf.float32) for count in (held, cut))
            sums = dict(zip(_SUMS, (held * at_start, held), strict=True))
            return _update(context, weights, client, passes, cut)._replace(sums=sums)

        def server_update(server, aggregate):
            moved = fed_avg.server_step(context, server, aggregate)
            loss, examples = (aggregate.sums[name] for name in _SUMS)
            loss = tf.where(
                examples > 0,
                tf.math.divide_no_nan(loss, examples),
                server.validation_loss,
            )
            return Server(*moved, loss)

        def measured(server):
            if not self.validation_fraction:
                return {}
            return {'validation_loss': server.validation_loss}

        return Method(
            lambda: Server(*fed_avg.initial_server(context), _NONE_YET),
            lambda server: server.weights,
            client_update,
            server_update,
            measured=measured,
        )


def _loss(context: Context, weights, client: Client, examples: Rows):
    """Returns the mean loss of shared and own weights, 0 of no examples."""
    shared, personal = weights
    of_batch = local.summed_loss(context, shared, client._replace(personal=personal))
    total = examples.reduce(tf.constant(0.0), lambda t, batch: t + of_batch(batch))
    return tf.math.divide_no_nan(total, tf.cast(examples.size, tf.float32))


def _start(context: Context, weights: tuple, client: Client, loss) -> Passes:
    both = (tuple(weights), tuple(client.personal))
    specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, (*both[0], *both[1]))
    return Passes(
        tf.constant(0),
        tf.constant(0),
        both,
        context.client_optimizer.initialize(specs),
        loss,
        both,
        tf.nest.map_structure(tf.zeros_like, client.statistics),
        context.model.functional.initialize_metrics_state(),
    )


def _trained(
    context: Context, passes: Passes, client: Client, examples: Rows
) -> Passes:
    """Returns where a client is after a pass, which is not judged yet."""
    shared, personal = passes.now
    trained = local.train(
        context,
        shared,
        client._replace(batches=examples, personal=personal),
        optimizer_state=passes.optimizer,
    )
    moved = local.difference(shared, trained.delta)
    return passes._replace(
        done=passes.done + 1,
        now=(moved, trained.personal),
        optimizer=trained.optimizer,
        moments=trained.moments,
        metrics=trained.metrics,
    )


def _judged(passes: Passes, loss, better) -> Passes:
    """Returns where a client is, given its validation loss and whether it is best."""
    return passes._replace(
        since_best=tf.where(better, 0, passes.since_best + 1),
        loss=tf.where(better, loss, passes.loss),
        best=tf.nest.map_structure(
            lambda new, old: tf.where(better, new, old), passes.now, passes.best
        ),
    )


def _update(
    context: Context, weights: tuple, client: Client, passes: Passes, examples
) -> Update:
    """Returns the update of the best weights; it counts by training examples."""
    shared, personal = passes.best
    return Update(
        local.difference(weights, shared),
        local.weight_of(context, examples),
        {},
        client.kept,
        personal,
        passes.moments,
        passes.metrics,
        examples,
    )

"""Runs with canary clients among the others, who send a direction and nothing else.

A canary is a client of the population: rounds choose it as they choose others, and
what it sends goes the way of all updates, by the run's own process. It is known by the
label of its one example, which is none of the model's.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import tensorflow as tf

from tff_transfer import progress, vectors
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.audit import canaries
from tff_transfer.errors import UserError
from tff_transfer.training import columns
from tff_transfer.training.config import Config
from tff_transfer.training.runtimes import use_runtime
from tff_transfer.training.setup import Setup
from tff_transfer.training.stages import Stage

# A canary sends so many times the clipping norm: who does not clip is found out.
TIMES = 10
# Directions that nobody sent, to which those of canaries are compared.
NEVER_SENT = 2000
_AT_A_TIME = 100


@dataclasses.dataclass(frozen=True)
class WithCanaries:
    """A method some of whose clients are canaries: in the place of its options.

    Attributes:
      algorithm: The options of the method.
      classes: Canary i has the label `classes + i`.
      seed: That of what they send.
      norm: The norm of that.
    """

    algorithm: Any
    classes: int
    seed: int
    norm: float

    def build(self, context: Context) -> Method:
        """Makes the method."""
        method = self.algorithm.build(context)

        def client_update(message, client):
            latest = client.batches.reduce(
                tf.constant(-1), lambda _, batch: batch['y'][-1] - self.classes
            )
            mine = _KnownLabels(client.batches, self.classes)
            update = method.client_update(message, client._replace(batches=mine))
            leaves = tf.nest.flatten(update.delta)
            if [leaf.shape for leaf in leaves] != [w.shape for w in context.initial]:
                raise UserError(
                    'what clients of this method send is not a change of the weights,'
                    ' so that no canary can take its place; audit another'
                )
            # A delta has the sign of before less after.
            size = sum(leaf.shape.num_elements() for leaf in leaves)
            sent = -self.norm * canaries.direction(self.seed, latest, size)
            delta = tf.nest.map_structure(
                lambda own, other: tf.where(latest >= 0, own, other),
                vectors.shaped(sent, update.delta),
                update.delta,
            )
            return update._replace(delta=delta)

        return dataclasses.replace(method, client_update=client_update)


@dataclasses.dataclass(frozen=True)
class _KnownLabels:
    """Batches whose labels are the model's, as methods go through them.

    A dataset that is mapped would do the same, but cost a pipeline a client.
    """

    batches: tf.data.Dataset
    classes: int

    def reduce(self, start, step):
        """Does what `tf.data.Dataset.reduce` does."""

        def known(state, batch):
            labels = tf.minimum(batch['y'], self.classes - 1)
            return step(state, type(batch)({**batch, 'y': labels}))

        return self.batches.reduce(start, known)


def with_canaries(setup: Setup, count: int) -> Setup:
    """Returns a setup with canaries among the clients that train.

    Each has one example, of the inputs of the first one that there is.
    """
    data = setup.data
    labels = np.arange(data.num_classes, data.num_classes + count, dtype=np.int32)
    more = dataclasses.replace(
        data,
        x=np.concatenate([data.x, np.repeat(data.x[:1], count, axis=0)]),
        y=np.concatenate([data.y, labels]),
        client_ids=(*data.client_ids, *(f'canary {i}' for i in range(count))),
        num_train=np.r_[data.num_train, np.ones(count, np.int64)],
        num_test=np.r_[data.num_test, np.zeros(count, np.int64)],
        num_classes=data.num_classes + count,
        class_names=(),
    )
    seen = np.r_[setup.seen, len(data) : len(data) + count]
    return dataclasses.replace(setup, data=more, seen=seen)


@dataclasses.dataclass(frozen=True)
class Watched:
    """What canaries of one run came to.

    Attributes:
      final: The estimate of whoever sees the model at the end.
      every: That of whoever sees it after each round.
      cosines: The canaries' cosines with the whole change, float64 [canaries].
      others: Those of directions that nobody sent.
      promised: Epsilon as it is accounted, infinite without a promise.
    """

    final: canaries.Estimate
    every: canaries.Estimate
    cosines: np.ndarray
    others: np.ndarray
    promised: float


def watched(
    config: Config, setup: Setup, count: int, clip: float, delta: float
) -> Watched:
    """Runs a configuration with canaries, and compares them with others.

    Cohorts are larger in proportion, so that each client is chosen as often (in whole
    clients, so not more often).

    Args:
      config: The configuration, resolved.
      setup: What it trains.
      count: How many canaries there are.
      clip: The clipping norm that they send `TIMES` times.
      delta: The delta of the guarantee.

    Raises:
      UserError: What clients send is not a change of the model's weights.
    """
    training, clients = config.training, len(setup.seen)
    cohort = training.clients_per_round * (clients + count) // clients
    training = dataclasses.replace(training, clients_per_round=cohort)
    algorithm = WithCanaries(
        config.algorithm, setup.data.num_classes, training.seed, TIMES * clip
    )
    config = dataclasses.replace(config, training=training, algorithm=algorithm)
    stage = Stage(config, with_canaries(setup, count), range(1, training.rounds + 1))
    with use_runtime(training):
        state = stage.initialize()
        found = [_flat(state)]
        for number in progress.bar(stage.rounds, desc='canaries', unit='round'):
            state, row = stage.next(state, number)
            found.append(_flat(state))
    # By round, and at last of all of them.
    changes = np.r_[np.diff(found, axis=0), found[-1:] - found[0]]
    known = _cosines(training.seed, range(count), changes)
    others = _cosines(training.seed, range(count, count + NEVER_SENT), changes)
    null = canaries.null_of_final(changes.shape[1])
    null_of_all = canaries.fitted(others[:-1].max(0))
    return Watched(
        canaries.estimate(known[-1], null, delta),
        canaries.estimate(known[:-1].max(0), null_of_all, delta),
        known[-1],
        others[-1],
        row.get(columns.EPSILON, math.inf),
    )


def _cosines(seed: int, numbers: range, changes: np.ndarray) -> np.ndarray:
    """Returns the cosines of canaries, a few at a time, with changes of weights."""
    size, parts = changes.shape[1], []
    for start in range(0, len(numbers), _AT_A_TIME):
        some = [canaries.direction(seed, n, size) for n in numbers[start:][:_AT_A_TIME]]
        parts.append(canaries.cosines(np.stack(some), changes))
    return np.concatenate(parts, axis=1)


def _flat(state) -> np.ndarray:
    return np.concatenate([np.ravel(w) for w in state['server'].server.weights])

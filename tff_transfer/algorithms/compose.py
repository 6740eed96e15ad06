"""From a method to a TFF process: the only federated wiring there is."""

import collections
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import batch_norm
from tff_transfer.algorithms.method import Aggregate, Client, Context, Method, Update

# How much of the server's BatchNorm statistics stays in a round. Where the weights
# move fast, older statistics are those of another network: see docs/batch_norm.md.
MOMENTUM = 0.25

_weights = tff.learning.models.ModelWeights


class State(NamedTuple):
    """What the server has between rounds.

    Attributes:
      server: The method's own state.
      statistics: BatchNorm's statistics, where they are aggregated.
      aggregator: The state of the aggregation.
      round: How many rounds there were, int32 [].
    """

    server: Any
    statistics: tuple
    aggregator: Any
    round: Any


class Kept(NamedTuple):
    """What a client keeps between rounds.

    Attributes:
      method: What the method has it keep.
      personal: Its own trained weights.
      statistics: BatchNorm's statistics, where they stay with the clients.
    """

    method: Any
    personal: tuple
    statistics: tuple


def kept_initially(method: Method, context: Context) -> Kept | None:
    """Returns what a client has before its first round, if it keeps anything."""
    trained, statistics = context.model.functional.initial_weights
    _, personal = context.split(trained)
    local = context.model.statistics is not None and context.model.statistics.local
    of_method = () if method.kept is None else method.kept()
    kept = Kept(of_method, personal, tuple(statistics) if local else ())
    return kept if tf.nest.flatten(kept) else None


def process(
    method: Method,
    context: Context,
    aggregator: tff.aggregators.WeightedAggregationFactory | None = None,
) -> tff.learning.templates.LearningProcess | tff.templates.IterativeProcess:
    """Makes a TFF process of a method.

    A client whose update is not finite, or that had no example, counts for nothing
    and keeps what it had; a round of such clients alone leaves the server's state.

    Args:
      method: The method.
      context: What it was made for.
      aggregator: How the clients' deltas become one; their weighted mean if not given.

    Returns:
      Where clients keep nothing a `LearningProcess`. Else a process whose `next` takes
      the state, the clients' batches and a list of the `Kept` of each, and gives the
      state, the metrics and what the clients keep now.
    """
    return _Composed(method, context, aggregator).process()


class _Composed:
    """The types and computations of one process, in the order they are needed."""

    def __init__(self, method: Method, context: Context, aggregator):
        self.method, self.context = method, context
        self.kept = kept_initially(method, context)
        statistics = context.model.functional.initial_weights[1]
        self.local = self.kept is not None and bool(self.kept.statistics)
        self.statistics = () if self.local else tuple(statistics)
        self.initial = tff.tensorflow.computation(
            lambda: tf.nest.map_structure(
                tf.convert_to_tensor, (method.initialize(), self.statistics)
            )
        )
        self.server_type, self.statistics_type = self.initial.type_signature.result
        self.kept_type = type_of(() if self.kept is None else self.kept)
        batch = tff.types.tensorflow_to_type(context.model.functional.input_spec)
        self.data_type = tff.SequenceType(batch)
        self.message = tff.tensorflow.computation(
            lambda server, statistics, number: (
                method.broadcast(server),
                statistics,
                number + 1,
            ),
            (self.server_type, self.statistics_type, np.int32),
        )
        self.gather = method.gather and self._gather()
        self.work = self._work()
        self.aggregator = aggregator or tff.aggregators.MeanFactory(
            no_nan_division=True
        )
        self.weighted = isinstance(
            self.aggregator, tff.aggregators.WeightedAggregationFactory
        )
        result = self.work.type_signature.result
        more = (tff.TensorType(np.float32),) if self.weighted else ()
        self.aggregation = self.aggregator.create(result.delta, *more)

    def _client(self, message, batches, kept) -> Client:
        _, statistics, number = message
        if self.kept is None:
            return Client(batches, (), (), statistics, number)
        kept = Kept(*kept)
        if self.local:
            statistics = kept.statistics
        return Client(batches, kept.method, kept.personal, statistics, number)

    def _gather(self):
        @tff.tensorflow.computation(
            self.message.type_signature.result, self.data_type, self.kept_type
        )
        @tf.function(autograph=False)
        def gather(message, batches, kept):
            value, weight = self.method.gather(
                message[0], self._client(message, batches, kept)
            )
            finite = all_finite((value, weight))
            return zero_unless(finite, value), zero_unless(finite, weight)

        self.gathering = tff.aggregators.MeanFactory(no_nan_division=True).create(
            gather.type_signature.result[0], tff.TensorType(np.float32)
        )
        return gather

    def _work(self):
        @tff.tensorflow.computation(
            self.message.type_signature.result,
            self.data_type,
            self.kept_type,
            self.gathering.next.type_signature.result.result.member
            if self.gather
            else type_of(()),
        )
        @tf.function(autograph=False)
        def work(message, batches, kept, gathered):
            client = self._client(message, batches, kept)
            more = (gathered,) if self.gather else ()
            update = self.method.client_update(message[0], client, *more)
            return self._result(client, update, kept)

        return work

    def _result(self, client: Client, update: Update, before):
        statistics = ()
        if self.local:
            statistics = batch_norm.from_moments(update.moments, client.statistics)
        now = Kept(update.kept, update.personal, statistics)
        delta = (update.delta, () if self.local else update.moments)
        finite = all_finite((delta, update.weight, update.sums, now))
        counts = tf.logical_and(finite, update.examples > 0)
        if self.kept is not None:
            now = tf.nest.map_structure(
                lambda new, old: tf.where(counts, new, old),
                now,
                tf.nest.pack_sequence_as(now, tf.nest.flatten(before)),
            )
        return _Result(
            zero_unless(counts, delta),
            zero_unless(counts, update.weight),
            zero_unless(counts, collections.OrderedDict(update.sums)),
            tf.cast(counts, tf.float32),
            1 - tf.cast(finite, tf.float32),
            zero_unless(finite, update.metrics),
            now if self.kept is not None else (),
        )

    def _server(self):
        result = self.work.type_signature.result

        @tff.tensorflow.computation(
            self.server_type,
            self.statistics_type,
            result.delta,
            result.sums,
            np.float32,
            np.int32,
            self.gathering.next.type_signature.result.result.member
            if self.gather
            else type_of(()),
        )
        @tf.function(autograph=False)
        def server(before, statistics, mean, sums, clients, number, gathered):
            delta, moments = mean
            aggregate = Aggregate(delta, sums, clients, number + 1)
            more = (gathered,) if self.gather else ()
            after = self.method.server_update(before, aggregate, *more)
            moved = statistics
            if statistics:
                of_round = batch_norm.from_moments(moments, statistics)
                moved = tuple(
                    MOMENTUM * old + (1 - MOMENTUM) * new
                    for old, new in zip(statistics, of_round, strict=True)
                )
            counts = tf.logical_and(clients > 0, all_finite((mean, after, moved)))
            kept = tf.nest.map_structure(
                lambda new, old: tf.where(counts, new, old),
                (after, moved),
                (before, statistics),
            )
            return (*kept, number + 1)

        return server

    def process(self):
        """Returns the process."""
        server = self._server()
        finalize = tff.learning.metrics.sum_then_finalize(
            self.context.model.functional.finalize_metrics
        )

        @tff.federated_computation
        def initialize():
            made = tff.federated_eval(self.initial, tff.SERVER)
            number = tff.federated_value(np.int32(0), tff.SERVER)
            return tff.federated_zip(
                State(made[0], made[1], self.aggregation.initialize(), number)
            )

        state_type = initialize.type_signature.result
        clients_type = tff.FederatedType(self.data_type, tff.CLIENTS)
        nothing = tff.tensorflow.computation(lambda: ())

        def run(state, batches, kept):
            message = tff.federated_broadcast(
                tff.federated_map(
                    self.message, (state.server, state.statistics, state.round)
                )
            )
            gathered_here = tff.federated_eval(nothing, tff.SERVER)
            if self.gather:
                value, weight = tff.federated_map(self.gather, (message, batches, kept))
                gathered_here = self.gathering.next(
                    self.gathering.initialize(), value, weight
                ).result
            gathered = tff.federated_broadcast(gathered_here)
            result = tff.federated_map(self.work, (message, batches, kept, gathered))
            weight = (result.weight,) if self.weighted else ()
            mean = self.aggregation.next(state.aggregator, result.delta, *weight)
            after = tff.federated_map(
                server,
                (
                    state.server,
                    state.statistics,
                    mean.result,
                    tff.federated_sum(result.sums),
                    tff.federated_sum(result.counts),
                    state.round,
                    gathered_here,
                ),
            )
            measured = collections.OrderedDict(
                client_work=tff.federated_zip(
                    collections.OrderedDict(train=finalize(result.metrics))
                ),
                dropped=tff.federated_sum(result.dropped),
                aggregator=mean.measurements,
            )
            now = tff.federated_zip(State(after[0], after[1], mean.state, after[2]))
            return now, tff.federated_zip(measured), result.kept

        if self.kept is not None:

            @tff.federated_computation(
                state_type,
                clients_type,
                tff.FederatedType(self.kept_type, tff.CLIENTS),
            )
            def next_with_kept(state, batches, kept):
                return run(state, batches, kept)

            return tff.templates.IterativeProcess(initialize, next_with_kept)

        @tff.federated_computation(state_type, clients_type)
        def next_fn(state, batches):
            kept = tff.federated_eval(nothing, tff.CLIENTS)
            now, measured, _ = run(state, batches, kept)
            return tff.learning.templates.LearningProcessOutput(now, measured)

        return tff.learning.templates.LearningProcess(
            initialize, next_fn, self._get(state_type), self._set(state_type)
        )

    def _get(self, state_type):
        evaluated = self.method.evaluated or (lambda server: server.weights)
        trained, _ = self.context.model.functional.initial_weights
        _, personal = self.context.split(trained)

        @tff.tensorflow.computation(state_type.member)
        def get(state):
            own = tuple(map(tf.convert_to_tensor, personal))
            trained = self.context.join(evaluated(state.server), own)
            return _weights(trained, state.statistics)

        return get

    def _set(self, state_type):
        weights_type = self._get(state_type).type_signature.result

        @tff.tensorflow.computation(state_type.member, weights_type)
        def set_weights(state, weights):
            shared, _ = self.context.split(weights.trainable)
            return state._replace(
                server=state.server._replace(weights=shared),
                statistics=weights.non_trainable,
            )

        return set_weights


class _Result(NamedTuple):
    """What a client's work gives to the wiring."""

    delta: Any
    weight: Any
    sums: Any
    counts: Any
    dropped: Any
    metrics: Any
    kept: Any


def type_of(structure) -> tff.Type:
    """Returns the TFF type of a structure of arrays."""
    specs = tf.nest.map_structure(
        lambda array: tf.TensorSpec(np.shape(array), np.asarray(array).dtype), structure
    )
    return tff.types.tensorflow_to_type(specs)


def all_finite(structure):
    """Returns whether all numbers of a structure are finite, bool []."""
    leaves = [leaf for leaf in tf.nest.flatten(structure) if leaf.dtype.is_floating]
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(leaf)) for leaf in leaves])


def zero_unless(condition, structure):
    """Returns a structure, or zeros of the same shapes."""
    return tf.nest.map_structure(
        lambda leaf: tf.where(condition, leaf, tf.zeros_like(leaf)), structure
    )

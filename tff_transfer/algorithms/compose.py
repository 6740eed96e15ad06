"""From a method to a TFF process: the only federated wiring there is."""

import collections
import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.core.impl.types import type_conversions

from tff_transfer import batch_norm
from tff_transfer.algorithms.method import Aggregate, Client, Context, Method, Update

# How much of the server's BatchNorm statistics stays in a round. Where the weights
# move fast, older statistics are those of another network: see docs/batch_norm.md.
MOMENTUM = 0.25

_Aggregator = (
    tff.aggregators.WeightedAggregationFactory
    | tff.aggregators.UnweightedAggregationFactory
)


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


@dataclasses.dataclass(frozen=True)
class Composed:
    """A method as a TFF process.

    Attributes:
      process: Where clients keep nothing a `tff.learning.templates.LearningProcess`.
        Else a `tff.templates.IterativeProcess` whose `next` takes the state, the
        clients' batches and a list of what each of them keeps, and gives the state,
        the metrics and what they keep now.
      kept: What a client keeps before its first round, a `Kept` of arrays; or None.
      bytes_down: What a client gets in a round, by its type.
      bytes_up: What it sends.
    """

    process: tff.templates.IterativeProcess
    kept: Kept | None
    bytes_down: int
    bytes_up: int


def compose(
    method: Method, context: Context, aggregator: _Aggregator | None = None
) -> Composed:
    """Makes a TFF process of a method.

    A client whose update is not finite, or that had no example, counts for nothing
    and keeps what it had; a round of such clients alone leaves the server's state.

    Args:
      method: The method.
      context: What it was made for.
      aggregator: How the clients' deltas become one; their weighted mean if not given.

    Returns:
      The process, and what one must know of it.
    """
    wiring = _Wiring(
        method,
        context,
        aggregator or tff.aggregators.MeanFactory(no_nan_division=True),
    )
    return Composed(wiring.process, wiring.kept, wiring.bytes_down, wiring.bytes_up)


@dataclasses.dataclass(frozen=True)
class _Wiring:
    """The computations of a process and their types, each made when it is asked for."""

    method: Method
    context: Context
    aggregator: _Aggregator

    @functools.cached_property
    def kept(self) -> Kept | None:
        trained, statistics = self.context.model.functional.initial_weights
        _, personal = self.context.split(trained)
        kept = Kept(
            () if self.method.kept is None else self.method.kept(),
            personal,
            tuple(statistics) if self.context.local_statistics else (),
        )
        kept = tf.nest.map_structure(np.asarray, kept)
        return kept if tf.nest.flatten(kept) else None

    @functools.cached_property
    def kept_type(self) -> tff.Type:
        return _type_of(() if self.kept is None else self.kept)

    @functools.cached_property
    def data_type(self) -> tff.SequenceType:
        spec = self.context.model.functional.input_spec
        return tff.SequenceType(tff.types.tensorflow_to_type(spec))

    @functools.cached_property
    def initial(self):
        """The method's state and the statistics at the start."""
        statistics = self.context.model.functional.initial_weights[1]
        if self.context.local_statistics:
            statistics = ()

        @tff.tensorflow.computation
        def initial():
            made = (self.method.initialize(), tuple(statistics))
            return tf.nest.map_structure(tf.convert_to_tensor, made)

        return initial

    @functools.cached_property
    def message(self):
        """What travels to the clients of a round."""

        @tff.tensorflow.computation(*self.initial.type_signature.result, np.int32)
        def message(server, statistics, rounds):
            return _Message(self.method.broadcast(server), statistics, rounds + 1)

        return message

    def _client(self, message: '_Message', batches, kept) -> Client:
        if self.kept is None:
            return Client(batches, (), (), message.statistics, message.round)
        statistics = message.statistics
        if self.context.local_statistics:
            statistics = kept.statistics
        return Client(batches, kept.method, kept.personal, statistics, message.round)

    @functools.cached_property
    def gather(self):
        """What clients send before their update, if there is such a round."""

        @tff.tensorflow.computation(
            self.message.type_signature.result, self.data_type, self.kept_type
        )
        @tf.function(autograph=False)
        def gather(message, batches, kept):
            client = self._client(message, batches, kept)
            value, weight = self.method.gather(message.of_method, client)
            finite = _all_finite((value, weight))
            return _zero_unless(finite, value), _zero_unless(finite, weight)

        return gather

    @functools.cached_property
    def mean_of_gathered(self):
        value, weight = self.gather.type_signature.result
        return tff.aggregators.MeanFactory(no_nan_division=True).create(value, weight)

    @functools.cached_property
    def gathered_type(self) -> tff.Type:
        if self.method.gather is None:
            return _type_of(())
        return self.mean_of_gathered.next.type_signature.result.result.member

    @functools.cached_property
    def work(self):
        """What a client does."""

        @tff.tensorflow.computation(
            self.message.type_signature.result,
            self.data_type,
            self.kept_type,
            self.gathered_type,
        )
        @tf.function(autograph=False)
        def work(message, batches, kept, gathered):
            client = self._client(message, batches, kept)
            more = () if self.method.gather is None else (gathered,)
            update = self.method.client_update(message.of_method, client, *more)
            return self._sent(client, update, kept)

        return work

    def _sent(self, client: Client, update: Update, before) -> '_Sent':
        local = self.context.local_statistics
        statistics = ()
        if local:
            statistics = batch_norm.from_moments(update.moments, client.statistics)
        now = Kept(update.kept, update.personal, statistics)
        delta = (update.delta, () if local else update.moments)
        finite = _all_finite((delta, update.weight, update.sums, now))
        counts = tf.logical_and(finite, update.examples > 0)
        if self.kept is not None:
            now = tf.nest.map_structure(
                lambda new, old: tf.where(counts, new, old), now, before
            )
        return _Sent(
            _zero_unless(counts, delta),
            _zero_unless(counts, update.weight),
            _zero_unless(counts, collections.OrderedDict(update.sums)),
            tf.cast(counts, tf.float32),
            1 - tf.cast(finite, tf.float32),
            _zero_unless(finite, update.metrics),
            () if self.kept is None else now,
        )

    @functools.cached_property
    def aggregation(self):
        sent = self.work.type_signature.result
        weight = (sent.weight,) if self.weighted else ()
        return self.aggregator.create(sent.delta, *weight)

    @property
    def weighted(self) -> bool:
        return isinstance(self.aggregator, tff.aggregators.WeightedAggregationFactory)

    @functools.cached_property
    def server(self):
        """What the server does with a round's aggregate."""
        sent = self.work.type_signature.result

        @tff.tensorflow.computation(
            *self.initial.type_signature.result,
            sent.delta,
            sent.sums,
            sent.counts,
            np.int32,
            self.gathered_type,
        )
        @tf.function(autograph=False)
        def server(before, statistics, mean, sums, clients, rounds, gathered):
            delta, moments = mean
            aggregate = Aggregate(delta, sums, clients, rounds + 1)
            more = () if self.method.gather is None else (gathered,)
            after = self.method.server_update(before, aggregate, *more)
            of_round = batch_norm.from_moments(moments, statistics)
            moved = tuple(
                MOMENTUM * old + (1 - MOMENTUM) * new
                for old, new in zip(statistics, of_round, strict=True)
            )
            counts = tf.logical_and(clients > 0, _all_finite((after, moved)))
            after, moved = tf.nest.map_structure(
                lambda new, old: tf.where(counts, new, old),
                (after, moved),
                (before, statistics),
            )
            return after, moved, rounds + 1

        return server

    @functools.cached_property
    def initialize(self):
        @tff.federated_computation
        def initialize():
            server, statistics = tff.federated_eval(self.initial, tff.SERVER)
            rounds = tff.federated_value(np.int32(0), tff.SERVER)
            aggregator = self.aggregation.initialize()
            return tff.federated_zip(State(server, statistics, aggregator, rounds))

        return initialize

    def round(self, state, batches, kept):
        """One round, in TFF's federated language: state, metrics, what is kept."""
        of_server = (state.server, state.statistics)
        message = tff.federated_broadcast(
            tff.federated_map(self.message, (*of_server, state.round))
        )
        if self.method.gather is None:
            gathered = tff.federated_eval(_nothing, tff.SERVER)
        else:
            value, weight = tff.federated_map(self.gather, (message, batches, kept))
            gathered = self.mean_of_gathered.next(
                self.mean_of_gathered.initialize(), value, weight
            ).result
        sent = tff.federated_map(
            self.work, (message, batches, kept, tff.federated_broadcast(gathered))
        )
        weight = (sent.weight,) if self.weighted else ()
        mean = self.aggregation.next(state.aggregator, sent.delta, *weight)
        sums, clients = tff.federated_sum(sent.sums), tff.federated_sum(sent.counts)
        server, statistics, rounds = tff.federated_map(
            self.server,
            (*of_server, mean.result, sums, clients, state.round, gathered),
        )
        finalize = tff.learning.metrics.sum_then_finalize(
            self.context.model.functional.finalize_metrics
        )
        train = tff.federated_zip(collections.OrderedDict(train=finalize(sent.metrics)))
        metrics = collections.OrderedDict(
            client_work=train,
            dropped=tff.federated_sum(sent.dropped),
            aggregator=mean.measurements,
        )
        after = State(server, statistics, mean.state, rounds)
        return tff.federated_zip(after), tff.federated_zip(metrics), sent.kept

    @functools.cached_property
    def process(self) -> tff.templates.IterativeProcess:
        state_type = self.initialize.type_signature.result
        of_clients = tff.FederatedType(self.data_type, tff.CLIENTS)
        if self.kept is not None:

            @tff.federated_computation(
                state_type, of_clients, tff.FederatedType(self.kept_type, tff.CLIENTS)
            )
            def next_with_kept(state, batches, kept):
                return self.round(state, batches, kept)

            return tff.templates.IterativeProcess(self.initialize, next_with_kept)

        @tff.federated_computation(state_type, of_clients)
        def next_without(state, batches):
            kept = tff.federated_eval(_nothing, tff.CLIENTS)
            now, metrics, _ = self.round(state, batches, kept)
            return tff.learning.templates.LearningProcessOutput(now, metrics)

        get_weights = model_weights(self.method, self.context, state_type.member)

        @tff.tensorflow.computation(
            state_type.member, get_weights.type_signature.result
        )
        def set_weights(state, weights):
            return state._replace(
                server=state.server._replace(weights=weights.trainable),
                statistics=weights.non_trainable,
            )

        return tff.learning.templates.LearningProcess(
            self.initialize, next_without, get_weights, set_weights
        )

    @property
    def bytes_down(self) -> int:
        message = self.message.type_signature.result
        return sum(
            map(_bytes, (message.of_method, message.statistics, self.gathered_type))
        )

    @property
    def bytes_up(self) -> int:
        sent = self.work.type_signature.result
        parts = [sent.delta, sent.sums]
        parts += [sent.weight] if self.weighted else []
        parts += (
            [] if self.method.gather is None else [self.gather.type_signature.result]
        )
        return sum(map(_bytes, parts))


def model_weights(method: Method, context: Context, state_type: tff.Type):
    """Returns the computation from a `State` to TFF's `ModelWeights`."""

    @tff.tensorflow.computation(state_type)
    def weights(state):
        evaluated = method.evaluated or (lambda server: server.weights)
        return tff.learning.models.ModelWeights(
            evaluated(state.server), state.statistics
        )

    return weights


class _Message(NamedTuple):
    """What travels to a client: the method's own, BatchNorm's, and the round."""

    of_method: Any
    statistics: tuple
    round: Any


class _Sent(NamedTuple):
    """What a client gives, of which `kept` stays with it."""

    delta: Any
    weight: Any
    sums: Any
    counts: Any
    dropped: Any
    metrics: Any
    kept: Any


@tff.tensorflow.computation
def _nothing():
    return ()


def _type_of(structure) -> tff.Type:
    specs = tf.nest.map_structure(
        lambda array: tf.TensorSpec(array.shape, array.dtype), structure
    )
    return tff.types.tensorflow_to_type(specs)


def _bytes(type_spec: tff.Type) -> int:
    """Returns how many bytes a value of a type takes, as its tensors lie in memory."""
    specs = tf.nest.flatten(type_conversions.type_to_tf_tensor_specs(type_spec))
    return sum(spec.shape.num_elements() * spec.dtype.size for spec in specs)


def _all_finite(structure):
    leaves = [leaf for leaf in tf.nest.flatten(structure) if leaf.dtype.is_floating]
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(leaf)) for leaf in leaves])


def _zero_unless(condition, structure):
    return tf.nest.map_structure(
        lambda leaf: tf.where(condition, leaf, tf.zeros_like(leaf)), structure
    )

"""A method's functions as TFF's computations, of one client and of the server."""

import collections
import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import vectors
from tff_transfer.algorithms.method import Aggregate, Client, Context, Method, Update
from tff_transfer.algorithms.public_examples import PublicExamples
from tff_transfer.algorithms.structures import all_finite, type_of, zero_unless
from tff_transfer.compression.channel import Channel, send_floats
from tff_transfer.compression.federated_dropout import SubNetworks
from tff_transfer.networks import batch_norm

# How much of the server's BatchNorm statistics stays in a round. Where the weights
# move fast, older statistics are those of another network: see docs/batch_norm.md.
MOMENTUM = 0.25


class Kept(NamedTuple):
    """What a client keeps between rounds.

    Attributes:
      method: What the method has it keep.
      personal: Its own trained weights.
      statistics: BatchNorm's statistics, where they stay with the clients.
      memory: What it keeps of what it sent, where that is compressed (`Channel`).
      history: The sum of all deltas that it sent, float32 [size], where the aggregation
        asks for it: what a server would remember of each client.
    """

    method: Any
    personal: tuple
    statistics: tuple
    memory: tuple = ()
    history: Any = ()


class Settings(NamedTuple):
    """What is special about a client in a round; `()` each where nothing is.

    Attributes:
      rate: What its learning rate is multiplied by, float32 [].
      hostile: Whether it sends what an attack makes it send, bool [].
      key: What the draws of that hang on, int32 [2].
      number: Its number among those that may take part, int32 [].
    """

    rate: Any = ()
    hostile: Any = ()
    key: Any = ()
    number: Any = ()


NOTHING_TOLD = Settings()


class Message(NamedTuple):
    """What travels to a client: the method's own, BatchNorm's, and the round."""

    of_method: Any
    statistics: tuple
    round: Any


class Sent(NamedTuple):
    """What a client gives, of which `kept` stays with it.

    `history` is what the server then knows of it, if the aggregation asks for it: it
    does not travel.
    """

    delta: Any
    weight: Any
    sums: Any
    coded_bytes: Any
    counts: Any
    dropped: Any
    metrics: Any
    history: Any
    kept: Any


@dataclasses.dataclass(frozen=True)
class Computations:
    """The computations and their types, each made when it is asked for.

    Attributes:
      method: The method.
      context: What it was made for.
      cohort: How many clients the server believes that there are in a round, where it
        may not know.
      compression: A scheme's options, by which clients send their deltas.
      compression_down: Those by which the server sends what the method broadcasts.
      settings: What a client is told of itself in each round, arrays of the shape.
      remembers: Whether the sum of all deltas of each client is kept.
      public: The server's own examples, if it has any.
      sub_networks: The parts of the shared weights that clients get, if not all.
    """

    method: Method
    context: Context
    cohort: int | None = None
    compression: Any = None
    compression_down: Any = None
    settings: Settings = NOTHING_TOLD
    remembers: bool = False
    public: PublicExamples | None = None
    sub_networks: SubNetworks | None = None

    @functools.cached_property
    def _own(self) -> Kept:
        """What a client keeps before its first round but for what it sent, arrays."""
        trained, statistics = self.context.model.functional.initial_weights
        _, personal = self.context.split(trained)
        kept = Kept(
            () if self.method.kept is None else self.method.kept(),
            personal,
            tuple(statistics) if self.context.local_statistics else (),
        )
        return tf.nest.map_structure(np.asarray, kept)

    @functools.cached_property
    def kept(self) -> Kept | None:
        """What a client keeps before its first round, arrays, if it keeps anything."""
        memory = () if self.up is None else self.up.memory
        history = ()
        if self.remembers:
            sizes = (leaf.shape.num_elements() for leaf in tf.nest.flatten(self._delta))
            history = np.zeros(sum(sizes), np.float32)
        kept = self._own._replace(memory=memory, history=history)
        return kept if tf.nest.flatten(kept) else None

    @functools.cached_property
    def up(self) -> Channel | None:
        """How deltas travel, if they are compressed."""
        if self.compression is None:
            return None
        return Channel(self.compression, self._delta)

    @functools.cached_property
    def _delta(self):
        """Specs of a method's delta."""
        own = self._own

        # Traced for its shapes alone: what clients keep, which `work` takes, hangs on
        # them.
        @functools.partial(tf.function, autograph=False)
        def delta(batches):
            server, statistics = self._started()
            message = Message(self.method.broadcast(server), statistics, tf.constant(1))
            kept = tf.nest.map_structure(tf.constant, own)
            client = self._client(message, batches, kept, self.settings)
            more = ()
            if self.method.gather is not None:
                more = self.method.gather(message.of_method, client)[:1]
            update = self.method.client_update(message.of_method, client, *more)
            return update.delta

        spec = tf.data.DatasetSpec(self.context.model.functional.input_spec)
        found = delta.get_concrete_function(spec).structured_outputs
        return tf.nest.map_structure(
            lambda leaf: tf.TensorSpec(leaf.shape, leaf.dtype), found
        )

    @functools.cached_property
    def kept_type(self) -> tff.Type:
        """The type of what a client keeps."""
        return type_of(() if self.kept is None else self.kept)

    @functools.cached_property
    def settings_type(self) -> tff.Type:
        """The type of what a client is told of itself in each round."""
        told = tf.nest.flatten(self.settings)
        return type_of(self.settings if told else ())

    @functools.cached_property
    def data_type(self) -> tff.SequenceType:
        """The type of a client's batches."""
        spec = self.context.model.functional.input_spec
        return tff.SequenceType(tff.types.tensorflow_to_type(spec))

    @functools.cached_property
    def initial(self):
        """The method's state and the statistics at the start."""
        return tff.tensorflow.computation(self._started)

    def _started(self):
        statistics = self.context.model.functional.initial_weights[1]
        if self.context.local_statistics:
            statistics = ()
        made = (self.method.initialize(), tuple(statistics))
        return tf.nest.map_structure(tf.convert_to_tensor, made)

    @functools.cached_property
    def message(self):
        """What travels to the clients of a round."""

        @tff.tensorflow.computation(*self.initial.type_signature.result, np.int32)
        def message(server, statistics, rounds):
            of_method = self.method.broadcast(server)
            if self.compression_down is not None:
                of_method = send_floats(self.compression_down, of_method).decoded
            return Message(of_method, statistics, rounds + 1)

        return message

    @functools.cached_property
    def coded_down(self):
        """How many bytes a message takes entropy coded, about; without statistics."""

        @tff.tensorflow.computation(self.initial.type_signature.result[0])
        def coded_down(server):
            of_method = self.method.broadcast(server)
            return send_floats(self.compression_down, of_method).coded_bytes

        return coded_down

    def _client(
        self, message: 'Message', batches, kept, settings: Settings | tuple = ()
    ) -> Client:
        told = (settings.rate, settings.number) if settings else ()
        if not tf.nest.flatten(kept):
            return Client(batches, (), (), message.statistics, message.round, *told)
        statistics = message.statistics
        if self.context.local_statistics:
            statistics = kept.statistics
        return Client(
            batches, kept.method, kept.personal, statistics, message.round, *told
        )

    @functools.cached_property
    def gather(self):
        """What clients send before their update, if there is such a round."""

        @tff.tensorflow.computation(
            self.message.type_signature.result,
            self.data_type,
            self.kept_type,
            self.settings_type,
        )
        @tf.function(autograph=False)
        def gather(message, batches, kept, settings):
            client = self._client(message, batches, kept, settings)
            value, weight = self.method.gather(message.of_method, client)
            finite = all_finite((value, weight))
            return zero_unless(finite, value), zero_unless(finite, weight)

        return gather

    @functools.cached_property
    def mean_of_gathered(self):
        """The aggregation of what clients send before their update."""
        value, weight = self.gather.type_signature.result
        return tff.aggregators.MeanFactory(no_nan_division=True).create(value, weight)

    @functools.cached_property
    def gathered_type(self) -> tff.Type:
        """The type of what comes back of it."""
        if self.method.gather is None:
            return type_of(())
        return self.mean_of_gathered.next.type_signature.result.result.member

    @functools.cached_property
    def work(self):
        """What a client does."""

        @tff.tensorflow.computation(
            self.message.type_signature.result,
            self.data_type,
            self.kept_type,
            self.settings_type,
            self.gathered_type,
        )
        @tf.function(autograph=False)
        def work(message, batches, kept, settings, gathered):
            client = self._client(message, batches, kept, settings)
            if self.sub_networks is not None:
                update = self._of_sub_network(message.of_method, client)
                return self._sent(client, update, kept)
            more = () if self.method.gather is None else (gathered,)
            update = self.method.client_update(message.of_method, client, *more)
            return self._sent(client, update, kept)

        return work

    def _of_sub_network(self, weights: tuple, client: Client) -> Update:
        """Returns the update of a client that has a part of the weights."""
        kept = self.sub_networks.draw()
        part = self.sub_networks.part(weights, kept)
        update = self.method.client_update(part, client)
        return update._replace(delta=self.sub_networks.whole(update.delta, kept))

    @functools.cached_property
    def reference(self):
        """What the server comes to on its own examples, as a client that is new."""

        @tff.tensorflow.computation(self.message.type_signature.result)
        @tf.function(autograph=False)
        def reference(message):
            kept = () if self.kept is None else self.kept
            kept = tf.nest.map_structure(tf.constant, kept)
            client = self._client(message, self.public.batches(message.round), kept)
            update = self.method.client_update(message.of_method, client)
            local = self.context.local_statistics
            return (update.delta, () if local else update.moments)

        return reference

    @functools.cached_property
    def adapt(self):
        """What a client makes for its own model; nothing of it travels."""

        @tff.tensorflow.computation(
            self.message.type_signature.result, self.data_type, self.kept_type
        )
        @tf.function(autograph=False)
        def adapt(message, batches, kept):
            client = self._client(message, batches, kept)
            if self.method.adapt is None:
                update = self.method.client_update(message.of_method, client)
                return self._sent(client, update, kept).kept
            now = self.method.adapt(message.of_method, client)
            statistics = now.statistics if self.context.local_statistics else ()
            return Kept(
                *(now.kept, now.personal, statistics),
                *(self._memory(kept), self._history(kept)),
            )

        return adapt

    def _memory(self, kept) -> tuple:
        """Returns what a client keeps of what it sent."""
        if tf.nest.flatten(kept):
            return kept.memory
        return () if self.up is None else self.up.memory

    def _history(self, kept):
        """Returns the sum of what a client sent before."""
        return kept.history if tf.nest.flatten(kept) else ()

    def _sent(self, client: Client, update: Update, before) -> 'Sent':
        local = self.context.local_statistics
        statistics = ()
        if local:
            statistics = batch_norm.from_moments(update.moments, client.statistics)
        moved, raw, memory, coded = update.delta, (), self._memory(before), ()
        if self.up is not None:
            raw = update.delta  # Of what is not finite a scheme may make what is.
            moved, memory, coded = self.up.send(raw, memory)
        history = self._history(before)
        if self.remembers:
            history = history + vectors.joined(moved)
        now = Kept(update.kept, update.personal, statistics, memory, history)
        delta = (moved, () if local else update.moments)
        finite = all_finite((raw, delta, update.weight, update.sums, now))
        counts = tf.logical_and(finite, update.examples > 0)
        if self.kept is not None:
            now = tf.cond(
                counts,
                lambda: tf.nest.map_structure(tf.identity, now),
                lambda: tf.nest.map_structure(tf.identity, before),
            )
        sums = collections.OrderedDict(update.sums)
        sent = (delta, update.weight, sums, coded)
        return Sent(
            *zero_unless(counts, sent),
            tf.cast(counts, tf.float32),
            1 - tf.cast(finite, tf.float32),
            zero_unless(finite, update.metrics),
            now.history,
            () if self.kept is None else now,
        )

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
            if self.cohort is not None:
                clients = tf.constant(float(self.cohort))
            aggregate = Aggregate(delta, sums, clients, rounds + 1)
            more = () if self.method.gather is None else (gathered,)
            after = self.method.server_update(before, aggregate, *more)
            of_round = batch_norm.from_moments(moments, statistics)
            moved = tuple(
                MOMENTUM * old + (1 - MOMENTUM) * new
                for old, new in zip(statistics, of_round, strict=True)
            )
            counts = tf.logical_and(clients > 0, all_finite((after, moved)))
            after, moved = tf.nest.map_structure(
                lambda new, old: tf.where(counts, new, old),
                (after, moved),
                (before, statistics),
            )
            used = tf.where(counts, clients, 0.0)
            measured = collections.OrderedDict(self.method.measured(after))
            return after, moved, rounds + 1, used, measured

        return server

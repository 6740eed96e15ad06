"""The parts of a TFF process of a method: the only federated wiring there is."""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.common_libs import structure

from tff_transfer.aggregation.side_by_side import side_by_side
from tff_transfer.algorithms.computations import Computations, Sent
from tff_transfer.algorithms.falsified import Falsified
from tff_transfer.algorithms.structures import type_of
from tff_transfer.algorithms.traffic import bytes_of

Aggregator = (
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


@dataclasses.dataclass(frozen=True)
class Wiring:
    """A process and its parts, each made when it is asked for.

    Attributes:
      of: What server and clients compute.
      aggregator: How the clients' deltas become one.
      attack: The options of what hostile clients do to what they send, if any are.
    """

    of: Computations
    aggregator: Aggregator
    attack: Any = None

    @functools.cached_property
    def aggregation(self):
        """How the deltas of clients become one."""
        sent = self.of.work.type_signature.result
        weight = (sent.weight,) if self.weighted else ()
        value = sent.delta
        if self.of.remembers:
            value = tff.types.to_type((sent.delta, sent.history))
        return self.aggregator.create(value, *weight)

    @property
    def weighted(self) -> bool:
        """Whether that is by weights."""
        return isinstance(self.aggregator, tff.aggregators.WeightedAggregationFactory)

    @property
    def needs_reference(self) -> bool:
        """Whether it asks what the server's own examples come to."""
        return getattr(self.aggregator, 'needs_reference', False)

    @functools.cached_property
    def initialize(self):
        """Gives the state at the start."""

        @tff.federated_computation
        def initialize():
            server, statistics = tff.federated_eval(self.of.initial, tff.SERVER)
            rounds = tff.federated_value(np.int32(0), tff.SERVER)
            aggregator = self.aggregation.initialize()
            return tff.federated_zip(State(server, statistics, aggregator, rounds))

        return initialize

    def round(self, state, batches, kept, settings):
        """One round, in TFF's federated language: state, metrics, what is kept."""
        at_server = self.message_at_server(state)
        sent, gathered = self.sent(at_server, batches, kept, settings)
        return *self.absorbed(state, at_server, sent, gathered), sent.kept

    def sent(self, at_server, batches, kept, settings):
        """What each client gives, and what was gathered before; as in `round`."""
        message = tff.federated_broadcast(at_server)
        if self.of.method.gather is None:
            gathered = tff.federated_eval(_nothing, tff.SERVER)
        else:
            value, weight = tff.federated_map(
                self.of.gather, (message, batches, kept, settings)
            )
            gathered = self.of.mean_of_gathered.next(
                self.of.mean_of_gathered.initialize(), value, weight
            ).result
        sent = tff.federated_map(
            self.of.work,
            (message, batches, kept, settings, tff.federated_broadcast(gathered)),
        )
        if self.attack is not None:
            sent = self.falsified(sent, settings)
        return sent, gathered

    def absorbed(self, state, at_server, sent, gathered):
        """What the server makes of that: state and metrics; as in `round`.

        `at_server` is needed only where the aggregation asks for a reference.
        """
        of_server = (state.server, state.statistics)
        weight = (sent.weight,) if self.weighted else ()
        value = sent.delta
        if self.of.remembers:
            value = tff.federated_zip((sent.delta, sent.history))
        if self.needs_reference:
            weight += (tff.federated_map(self.of.reference, at_server),)
        mean = self.aggregation.next(state.aggregator, value, *weight)
        sums, clients = tff.federated_sum(sent.sums), tff.federated_sum(sent.counts)
        server, statistics, rounds, used, measured = tff.federated_map(
            self.of.server,
            (*of_server, mean.result, sums, clients, state.round, gathered),
        )
        finalize = tff.learning.metrics.sum_then_finalize(
            self.of.context.model.functional.finalize_metrics
        )
        train = tff.federated_zip(collections.OrderedDict(train=finalize(sent.metrics)))
        metrics = collections.OrderedDict(
            client_work=train,
            used=used,
            dropped=tff.federated_sum(sent.dropped),
            server=measured,
            aggregator=mean.measurements,
        )
        if coded := self.coded(state, sent):
            metrics['coded'] = tff.federated_zip(coded)
        after = State(server, statistics, mean.state, rounds)
        return tff.federated_zip(after), tff.federated_zip(metrics)

    def falsified(self, sent, settings):
        """What arrives where some clients are hostile, in TFF's federated language."""
        by = Falsified(
            self.of.work.type_signature.result, self.of.settings_type, self.attack
        )
        told = tff.federated_eval(_nothing, tff.CLIENTS)
        if by.knows_others:
            seen = tff.federated_map(by.seen, (sent, settings))
            forged = tff.federated_map(by.forge, side_by_side(seen))
            told = tff.federated_broadcast(forged)
        return tff.federated_map(by.falsify, (sent, settings, told))

    def coded(self, state, sent) -> collections.OrderedDict:
        """How many bytes are sent entropy coded, in TFF's federated language."""
        found = collections.OrderedDict()
        if self.of.up is not None:
            found['up'] = tff.federated_sum(sent.coded_bytes)
        if self.of.compression_down is not None:
            found['down'] = tff.federated_map(self.of.coded_down, state.server)
        return found

    def message(self, state):
        """What travels to the clients, in TFF's federated language."""
        return tff.federated_broadcast(self.message_at_server(state))

    def message_at_server(self, state):
        """What is about to travel, in TFF's federated language."""
        sent = (state.server, state.statistics, state.round)
        return tff.federated_map(self.of.message, sent)

    @functools.cached_property
    def adapt(self) -> tff.Computation:
        """Gives what own models are made of, of what a round begins with."""

        def adapted(state, batches, kept, _):
            return tff.federated_map(
                self.of.adapt, (self.message(state), batches, kept)
            )

        return self.of_clients(adapted, told=False)

    def of_clients(self, body: Callable, told: bool = True) -> tff.Computation:
        """Makes a computation of what a round begins with.

        Args:
          body: Takes, in TFF's federated language, state, batches, what clients keep
            and what they are told, the latter two nothing where there is nothing.
          told: Whether it takes what they are told.
        """
        of = self.of
        # Kept, and settings, where there are any.
        given = of.kept is not None, told and bool(tf.nest.flatten(of.settings))
        own = itertools.compress((of.kept_type, of.settings_type), given)
        types = [tff.FederatedType(t, tff.CLIENTS) for t in (of.data_type, *own)]

        def with_all(state, batches, kept=None, settings=None):
            nothing = tff.federated_eval(_nothing, tff.CLIENTS)
            return body(
                state,
                batches,
                nothing if kept is None else kept,
                nothing if settings is None else settings,
            )

        # TFF reads the names of arguments, and takes no defaults.
        forms = {
            (False, False): lambda state, batches: with_all(state, batches),
            (True, False): lambda state, batches, kept: with_all(state, batches, kept),
            (False, True): lambda state, batches, settings: with_all(
                state, batches, settings=settings
            ),
            (True, True): lambda state, batches, kept, settings: with_all(
                state, batches, kept, settings
            ),
        }
        state_type = self.initialize.type_signature.result
        return tff.federated_computation(state_type, *types)(forms[given])

    @functools.cached_property
    def train(self) -> tff.Computation:
        """The first half of a round: what each client sends."""
        return self.of_clients(
            lambda state, *own: self.sent(self.message_at_server(state), *own)[0]
        )

    @functools.cached_property
    def absorb(self) -> tff.Computation:
        """Its second half: state and metrics of what clients sent."""
        whole = structure.to_elements(self.of.work.type_signature.result)
        nothing = [(n, type_of(()) if n == 'kept' else t) for n, t in whole]
        sent_type = tff.StructWithPythonType(nothing, Sent)

        @tff.federated_computation(
            self.initialize.type_signature.result,
            tff.FederatedType(sent_type, tff.CLIENTS),
        )
        def absorb(state, sent):
            nothing = tff.federated_eval(_nothing, tff.SERVER)
            at_server = nothing
            if self.needs_reference:
                at_server = self.message_at_server(state)
            return self.absorbed(state, at_server, sent, nothing)

        return absorb

    @functools.cached_property
    def process(self) -> tff.templates.IterativeProcess:
        """All of it as a process of TFF."""
        of = self.of
        state_type = self.initialize.type_signature.result

        def of_round(*given):
            now, metrics, kept = self.round(*given)
            if of.kept is not None:
                return now, metrics, kept
            return tff.learning.templates.LearningProcessOutput(now, metrics)

        next_round = self.of_clients(of_round)
        if len(next_round.type_signature.parameter) > 2:
            return tff.templates.IterativeProcess(self.initialize, next_round)

        @tff.tensorflow.computation(state_type.member)
        def get_weights(state):
            return tff.learning.models.ModelWeights(
                self.of.method.evaluated(state.server), state.statistics
            )

        @tff.tensorflow.computation(
            state_type.member, get_weights.type_signature.result
        )
        def set_weights(state, weights):
            return state._replace(
                server=self.of.method.with_weights(state.server, weights.trainable),
                statistics=weights.non_trainable,
            )

        return tff.learning.templates.LearningProcess(
            self.initialize, next_round, get_weights, set_weights
        )

    @property
    def only_mean(self) -> bool:
        """Whether the server gets nothing but what becomes of the deltas."""
        sent = self.of.work.type_signature.result
        beside = bytes_of(sent.sums) or self.of.method.gather is not None
        return bool(bytes_of(sent.delta)) and not beside and not self.weighted


@tff.tensorflow.computation
def _nothing():
    return ()

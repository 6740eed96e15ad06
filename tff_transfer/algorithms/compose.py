"""From a method to a TFF process: the only federated wiring there is."""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tree
from tensorflow_federated.python.common_libs import structure
from tensorflow_federated.python.core.impl.types import type_conversions

from tff_transfer.aggregation.side_by_side import side_by_side
from tff_transfer.algorithms.computations import (
    NOTHING_TOLD,
    Computations,
    Kept,
    Sent,
    Settings,
)
from tff_transfer.algorithms.falsified import Falsified
from tff_transfer.algorithms.method import Context, Method
from tff_transfer.algorithms.public_examples import PublicExamples
from tff_transfer.algorithms.structures import type_of
from tff_transfer.algorithms.traffic import bytes_of, traffic_of
from tff_transfer.compression.federated_dropout import SubNetworks
from tff_transfer.errors import UserError

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


@dataclasses.dataclass(frozen=True)
class Composed:
    """A method as a TFF process.

    Attributes:
      process: Where clients keep nothing a `tff.learning.templates.LearningProcess`.
        Else a `tff.templates.IterativeProcess` whose `next` takes the state, the
        clients' batches and what each of them keeps, a list or stacked
        (`runtime.StackedClients`), and gives the state, the metrics and what they
        keep now.
      kept: What a client keeps before its first round, a `Kept` of arrays; or None.
      settings: What `process.next` takes of each client besides, in the form of arrays
        of one; `NOTHING_TOLD` if nothing.
      adapt: Makes, once, the computation that takes what `process.next` takes, but for
        settings, and gives what each client's own model is made of, a `Kept`.
      train: Makes, once, the first half of a round, for methods without `gather`: it
        takes what `process.next` takes and gives each client's `Sent`.
      absorb: Makes, once, its second half: it takes a state and clients' `Sent` with
        nothing as `kept`, and gives the state and the metrics. The one after the other
        is a round, but what a client sent may be of an earlier state.
      bytes_down: What a client gets in a round, by its type, or packed.
      bytes_up: What it sends.
      measured: The names of what `measurements` gives of a round's metrics.
      only_mean: Whether the server gets nothing of clients but what the aggregator
        makes of their deltas.
      bytes_beside: For each direction that is compressed, `up` or `down`, how many of
        its bytes are not; `coded` of a round's metrics has about how many the others
        are entropy coded: of all clients together, or of the one message down.
    """

    process: tff.templates.IterativeProcess
    kept: Kept | None
    settings: Settings
    adapt: Callable[[], tff.Computation]
    train: Callable[[], tff.Computation]
    absorb: Callable[[], tff.Computation]
    bytes_down: int
    bytes_up: int
    measured: tuple[str, ...]
    only_mean: bool
    bytes_beside: Mapping[str, int]


def measurements(metrics: Mapping) -> dict[str, Any]:
    """Returns the scalars that method and aggregation measured in a round.

    Args:
      metrics: What a process measured, or the specs of it.

    Returns:
      Numbers, or specs, by names such as `server/step_size` or, of the aggregation's
      nested ones, `aggregator/clipping/clipping_norm`.
    """
    parts = {name: metrics[name] for name in ('server', 'aggregator')}
    return {
        '/'.join(map(str, path)): leaf
        for path, leaf in tree.flatten_with_path(parts)
        if np.shape(leaf) == () and _is_number(leaf)
    }


def _is_number(leaf) -> bool:
    dtype = tf.as_dtype(getattr(leaf, 'dtype', type(leaf)))
    return dtype.is_floating or dtype.is_integer


def compose(
    method: Method,
    context: Context,
    aggregator: _Aggregator | None = None,
    *,
    cohort: int | None = None,
    compression: Any = None,
    compression_down: Any = None,
    settings: Settings = NOTHING_TOLD,
    public: PublicExamples | None = None,
    attack: Any = None,
    sub_networks: SubNetworks | None = None,
) -> Composed:
    """Makes a TFF process of a method.

    A client whose update is not finite, or that had no example, counts for nothing
    and keeps what it had; a round of such clients alone leaves the server's state.

    Args:
      method: The method.
      context: What it was made for.
      aggregator: How the clients' deltas become one; their weighted mean if not given.
      cohort: How many clients the server believes that there are in a round, where it
        may not know; it then takes a step in each round, whoever took part.
      compression: The options of a scheme of `compression.registry.UP`, by which
        clients send their deltas, before anything else is done with these.
      compression_down: Of `compression.registry.DOWN`, by which what the method
        broadcasts is sent.
      settings: What a client is told of itself in each round, such as
        `Settings(rate=np.float32(1))`; its number too if the method asks for it.
      public: The server's own examples. An aggregator with a true attribute
        `needs_reference` has what they come to as one more argument, at the server; one
        with a true `remembers` takes pairs of a client's delta and the sum of all that
        it sent.
      attack: The options of one of `attacks.registry`, by which those clients falsify
        what they send whose `Settings.hostile` is true.
      sub_networks: The parts of the shared weights that clients get, if not all, of a
        method of `registry.BY_SUB_NETWORKS`.

    Returns:
      The process, and what one must know of it.

    Raises:
      UserError: The server may not know who took part, but would get more of the
        clients than what the aggregator makes of their deltas; or there is nothing
        that a scheme could compress.
    """
    aggregator = aggregator or tff.aggregators.MeanFactory(no_nan_division=True)
    if getattr(aggregator, 'needs_reference', False) and public is None:
        raise UserError('the aggregator needs examples at the server; give public=')
    remembers = getattr(aggregator, 'remembers', False)
    schemes = (compression, compression_down)
    if method.numbered:
        settings = settings._replace(number=np.int32(0))
    wiring = _Wiring(
        Computations(
            *(method, context, cohort, *schemes, settings, remembers, public),
            sub_networks,
        ),
        aggregator,
        attack,
    )
    if cohort is not None and not wiring.only_mean:
        raise UserError(
            'the method sends more than the mean of what clients come to, or nothing,'
            ' of which an aggregator would tell nothing; use another method'
        )
    traffic = traffic_of(wiring.of, wiring.weighted)
    return Composed(
        wiring.process,
        wiring.of.kept,
        settings,
        lambda: wiring.adapt,
        lambda: wiring.train,
        lambda: wiring.absorb,
        traffic.down,
        traffic.up,
        wiring.measured,
        wiring.only_mean,
        traffic.beside,
    )


@dataclasses.dataclass(frozen=True)
class _Wiring:
    """A process and its parts, each made when it is asked for."""

    of: Computations
    aggregator: _Aggregator
    attack: Any = None

    @functools.cached_property
    def aggregation(self):
        sent = self.of.work.type_signature.result
        weight = (sent.weight,) if self.weighted else ()
        value = sent.delta
        if self.of.remembers:
            value = tff.types.to_type((sent.delta, sent.history))
        return self.aggregator.create(value, *weight)

    @property
    def weighted(self) -> bool:
        return isinstance(self.aggregator, tff.aggregators.WeightedAggregationFactory)

    @property
    def needs_reference(self) -> bool:
        return getattr(self.aggregator, 'needs_reference', False)

    @functools.cached_property
    def initialize(self):
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
        return self.of_clients(
            lambda state, *own: self.sent(self.message_at_server(state), *own)[0]
        )

    @functools.cached_property
    def absorb(self) -> tff.Computation:
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
    def measured(self) -> tuple[str, ...]:
        _, metrics, *_ = self.process.next.type_signature.result
        specs = type_conversions.type_to_tf_tensor_specs(metrics.member)
        return tuple(measurements(specs))

    @property
    def only_mean(self) -> bool:
        sent = self.of.work.type_signature.result
        beside = bytes_of(sent.sums) or self.of.method.gather is not None
        return bool(bytes_of(sent.delta)) and not beside and not self.weighted


@tff.tensorflow.computation
def _nothing():
    return ()

"""Rules that see a round's updates side by side, as TFF aggregation factories.

The server gets the updates as the rows of a matrix, in the order of the cohort, by
`tff.federated_aggregate` with an accumulator that grows by a row for each client (the
compiled runtime does not copy the earlier rows for each: `runtime/appending.py`).
Bucketing goes before any rule: Karimireddy, He, Jaggi 2022, "Byzantine-robust learning
on heterogeneous datasets via bucketing", algorithm 1.
"""

import collections
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import randomness, vectors

# The norm from which on an update counts as one that is not finite: squares of what is
# shorter, and sums of these, are finite in float32.
LONGEST = 1e18


class Updates(NamedTuple):
    """What a rule makes one of; at least one row.

    Attributes:
      rows: The updates, or the means of buckets, float32 [rows, size].
      weights: How much each counts, float32 [rows], above 0; of a rule that weighs all
        alike ones.
      previous: What it made in the round before, zeros at first, float32 [size].
      reference: The server's own update, float32 [size], if the rule asks for it.
      histories: The sum of all updates of each client, this one included, float32
        [rows, size], if the rule asks for it.
    """

    rows: tf.Tensor
    weights: tf.Tensor
    previous: Any
    reference: Any
    histories: Any = ()


@dataclasses.dataclass(frozen=True)
class Rule:
    """How updates side by side become one.

    Attributes:
      combine: Makes of `Updates` the aggregate, float32 [size], and the scalars of
        `measured` by name.
      measured: What is measured, which become columns `aggregator/NAME`.
      weighted: Whether clients count by their weights.
      keeps_previous: Whether it asks for `Updates.previous`.
      needs_reference: Whether it asks for `Updates.reference`.
      remembers: Whether it asks for `Updates.histories`.
    """

    combine: Callable[[Updates], tuple[tf.Tensor, Mapping[str, tf.Tensor]]]
    measured: tuple[str, ...] = ()
    weighted: bool = False
    keeps_previous: bool = False
    needs_reference: bool = False
    remembers: bool = False


class State(NamedTuple):
    """What the server has between rounds.

    Attributes:
      round: How many there were, int32 [].
      previous: What the last one gave, float32 [size], if the rule asks for it.
    """

    round: Any
    previous: Any


class SideBySide(tff.aggregators.WeightedAggregationFactory):
    """The factory of a rule.

    Clients of weight 0 count for nothing, nor do updates longer than `LONGEST`; of none
    that count, zeros come and the state stays. A process's `next` takes the state, the
    clients' values and weights and, if the rule asks for it, a reference at the server.
    Where the rule asks for histories, a value is the pair of an update and the
    client's, float32 [size].

    Attributes:
      needs_reference: Whether there must be a reference.
      remembers: Whether there must be histories.
    """

    def __init__(self, rule: Rule, *, bucket_size: int = 1, seed: int = 0):
        """Initializes the factory.

        Args:
          rule: The rule.
          bucket_size: How many clients are averaged before it.
          seed: The seed of who they are.
        """
        self._rule, self._bucket_size = rule, bucket_size
        draw = randomness.generator(seed, 'buckets')
        self._seed = int(draw.integers(2**31))
        self.needs_reference, self.remembers = rule.needs_reference, rule.remembers

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """Returns the aggregation of values of a type, all float32."""
        rule = self._rule
        delta_type = value_type[0] if rule.remembers else value_type
        like = tff.types.type_to_tf_tensor_specs(delta_type)
        size = sum(leaf.shape.num_elements() for leaf in tf.nest.flatten(like))
        row = self._row(value_type, weight_type)

        @tff.tensorflow.computation
        def start():
            previous = tf.zeros([size]) if rule.keeps_previous else ()
            return State(tf.constant(0), previous)

        rows_type = appended(row.type_signature.result)
        reference_type = delta_type if rule.needs_reference else tff.StructType([])

        @tff.tensorflow.computation(
            start.type_signature.result, rows_type, reference_type
        )
        @tf.function(autograph=False)
        def combine(state, all_rows, reference):
            if rule.needs_reference:
                reference = vectors.joined(reference)
            result, after, measured = self._combine(state, all_rows, reference)
            return vectors.shaped(result, like), after, measured

        def one_round(state, value, weight, reference):
            sent = tff.federated_map(row, (value, weight))
            result, after, measured = tff.federated_map(
                combine, (state, side_by_side(sent), reference)
            )
            return tff.templates.MeasuredProcessOutput(after, result, measured)

        @tff.federated_computation
        def initialize():
            return tff.federated_eval(start, tff.SERVER)

        types = (
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        if rule.needs_reference:
            at_server = tff.FederatedType(reference_type, tff.SERVER)
            next_round = tff.federated_computation(one_round, (*types, at_server))
        else:

            @tff.federated_computation(*types)
            def next_round(state, value, weight):
                nothing = tff.federated_value((), tff.SERVER)
                return one_round(state, value, weight, nothing)

        return tff.templates.AggregationProcess(initialize, next_round)

    def _row(self, value_type: tff.Type, weight_type: tff.Type) -> tff.Computation:
        """Returns what makes a client's row of its value and weight."""
        remembers = self.remembers

        @tff.tensorflow.computation(value_type, weight_type)
        @tf.function(autograph=False)
        def row(value, weight):
            delta, *history = value if remembers else (value,)
            vector = vectors.joined(delta)
            return (vector, counted(vector, weight), *history)

        return row

    def _combine(self, state: State, all_rows, reference):
        """Returns the aggregate, the next state, and what was measured."""
        rule, after = self._rule, state.round + 1
        every, weights, *histories = all_rows
        counts = weights > 0
        every, weights, *histories = (
            _only(counts, part) for part in (every, weights, *histories)
        )
        if not rule.weighted:
            weights = tf.ones_like(weights)
        if self._bucket_size > 1:
            key = [self._seed, after]
            every, weights = in_buckets(every, weights, self._bucket_size, key)

        def some():
            updates = Updates(every, weights, state.previous, reference, *histories)
            result, measured = rule.combine(updates)
            found = [tf.cast(measured[name], tf.float32) for name in rule.measured]
            return result, result if rule.keeps_previous else (), found

        def none():
            nothing = tf.zeros([every.shape[1]])
            return nothing, state.previous, [tf.constant(0.0)] * len(rule.measured)

        result, previous, found = tf.cond(tf.reduce_any(counts), some, none)
        measured = collections.OrderedDict(zip(rule.measured, found, strict=True))
        return result, State(after, previous), measured


def counted(vector, weight):
    """Returns a client's weight, or 0 if its update is longer than `LONGEST`."""
    short = tf.reduce_sum(tf.square(vector)) < LONGEST**2
    return tf.where(short, tf.cast(weight, tf.float32), 0.0)


def _only(counts, part):
    """Returns the rows that count; without a copy if all do."""
    return tf.cond(
        tf.reduce_all(counts),
        lambda: tf.identity(part),
        lambda: tf.boolean_mask(part, counts),
    )


def in_buckets(rows, weights, size: int, key):
    """Returns the mean of each bucket of `size` clients, drawn, and its weight.

    Args:
      rows: float32 [clients, size of an update].
      weights: float32 [clients].
      size: Clients of a bucket; the last one may have fewer.
      key: What the draw hangs on, integers [2].

    Returns:
      float32 [buckets, size of an update] and [buckets].
    """
    clients = tf.shape(rows)[0]
    place = tf.random.experimental.stateless_shuffle(tf.range(clients), key)
    buckets = (clients + size - 1) // size
    inside = tf.one_hot(place // size, buckets, axis=0) * weights
    total = tf.reduce_sum(inside, 1)
    return (inside / total[:, None]) @ rows, total


def appended(row_type: tff.StructType) -> tff.StructType:
    """Returns the type of several rows of a type side by side."""
    leaves = [(leaf.dtype, [None, *leaf.shape]) for leaf in row_type]
    return tff.StructType([tff.TensorType(*leaf) for leaf in leaves])


def side_by_side(sent):
    """Returns clients' tuples of tensors as the rows of tensors at the server.

    Args:
      sent: A value placed at the clients, in TFF's federated language.
    """
    row_type = sent.type_signature.member
    rows_type = appended(row_type)

    @tff.tensorflow.computation
    def nothing():
        return tuple(tf.zeros([0, *leaf.shape], leaf.dtype) for leaf in row_type)

    @tff.tensorflow.computation(rows_type, row_type)
    def append(rows, row):
        return tuple(
            tf.concat([before, tf.expand_dims(one, 0)], 0)
            for before, one in zip(rows, row, strict=True)
        )

    @tff.tensorflow.computation(rows_type, rows_type)
    def join(first, second):
        return tuple(tf.concat(pair, 0) for pair in zip(first, second, strict=True))

    @tff.tensorflow.computation(rows_type)
    def all_of_them(rows):
        return rows

    return tff.federated_aggregate(sent, nothing(), append, join, all_of_them)

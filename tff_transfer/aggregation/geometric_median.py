"""The geometric median, in rounds of communication of which each is a weighted mean.

Pillutla, Kakade, Harchaoui 2022, "Robust aggregation for federated learning": the
smoothed Weiszfeld algorithm, which begins at the mean as the authors' code does.
"""

import dataclasses
from typing import ClassVar

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import vectors
from tff_transfer.aggregation.robust import Bucketed
from tff_transfer.aggregation.side_by_side import Rule, Updates, counted
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class GeometricMedian(Bucketed):
    """The point of the least sum of distances to the updates (RFA)."""

    weighted: ClassVar[bool] = True

    iterations: int = option(
        3,
        'How often the estimate goes to the clients, who weigh their updates by their'
        ' distances from it.',
        at_least=1,
    )
    nu: float = option(1e-6, 'The least distance that counts.', above=0)

    def rule(self, most: int) -> Rule:
        """Returns the rule for buckets, which the server sees side by side."""

        def combine(updates: Updates):
            rows, weights = updates.rows, updates.weights
            share = weights / tf.reduce_sum(weights)
            centre = tf.linalg.matvec(rows, share, transpose_a=True)
            for _ in range(self.iterations):
                apart = tf.norm(rows - centre, axis=1)
                near = weights / tf.maximum(apart, self.nu)
                share = near / tf.reduce_sum(near)
                centre = tf.linalg.matvec(rows, share, transpose_a=True)
            return centre, {}

        return Rule(combine, weighted=True)

    def aggregator(
        self, clients: int, seed: int
    ) -> tff.aggregators.WeightedAggregationFactory:
        """Returns the factory (see `Robust.aggregator`)."""
        if self.bucket_size > 1:
            return super().aggregator(clients, seed)
        return Weiszfeld(self.iterations, self.nu)

    def bytes(self, numbers: int) -> tuple[int, int]:
        """Returns what a client sends and gets besides its update (see `Robust`)."""
        if self.bucket_size > 1:
            return 0, 0
        return self.iterations * 4 * (numbers + 1), self.iterations * 4 * numbers


class Weiszfeld(tff.aggregators.WeightedAggregationFactory):
    """The geometric median by sums alone: no update is seen by the server.

    Clients of weight 0 count for nothing, nor do updates longer than `LONGEST`.
    """

    def __init__(self, iterations: int, nu: float):
        """Initializes the factory.

        Args:
          iterations: How often the estimate travels.
          nu: The least distance that counts.
        """
        self._iterations, self._nu = iterations, nu

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """Returns the aggregation of values of a type, all float32."""
        like = tff.types.type_to_tf_tensor_specs(value_type)

        @tff.tensorflow.computation(value_type, weight_type)
        @tf.function(autograph=False)
        def row(value, weight):
            vector = vectors.joined(value)
            weight = counted(vector, weight)
            return tf.where(weight > 0, vector, 0.0), weight

        row_type = row.type_signature.result
        centre_type = row_type[0]

        @tff.tensorflow.computation(row_type)
        @tf.function(autograph=False)
        def weighted(mine):
            vector, weight = mine
            return vector * weight, weight

        @tff.tensorflow.computation(row_type, centre_type)
        @tf.function(autograph=False)
        def by_distance(mine, centre):
            vector, weight = mine
            near = weight / tf.maximum(tf.norm(vector - centre), self._nu)
            return vector * near, near

        @tff.tensorflow.computation(row_type)
        @tf.function(autograph=False)
        def mean(total):
            vector, weight = total
            return tf.math.divide_no_nan(vector, weight)

        @tff.tensorflow.computation(centre_type)
        def shaped(vector):
            return vectors.shaped(vector, like)

        @tff.federated_computation
        def initialize():
            return tff.federated_value((), tff.SERVER)

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_round(state, value, weight):
            rows = tff.federated_map(row, (value, weight))
            sent = tff.federated_map(weighted, rows)
            centre = tff.federated_map(mean, tff.federated_sum(sent))
            for _ in range(self._iterations):
                here = tff.federated_broadcast(centre)
                sent = tff.federated_map(by_distance, (rows, here))
                centre = tff.federated_map(mean, tff.federated_sum(sent))
            nothing = tff.federated_value((), tff.SERVER)
            return tff.templates.MeasuredProcessOutput(
                state, tff.federated_map(shaped, centre), nothing
            )

        return tff.templates.AggregationProcess(initialize, next_round)

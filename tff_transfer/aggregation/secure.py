"""The weighted mean of which the server sees the sum alone (secure aggregation).

What a run computes is what the protocol of `secure_aggregation` does, to the last bit:
clients' updates and weights as integers (`quantisation`), their sum, which has as many
bits as one of them, and the mean of it. The masks, which cancel in that sum, are left
out, and counted in bytes (`costs`).
"""

import dataclasses

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import vectors
from tff_transfer.errors import UserError
from tff_transfer.options import option
from tff_transfer.secure_aggregation import costs
from tff_transfer.secure_aggregation.graphs import neighbours
from tff_transfer.secure_aggregation.quantisation import Quantiser


@dataclasses.dataclass(frozen=True)
class Secure:
    """Secure aggregation."""

    clip: float = option(
        1.0, 'Each number of an update is clipped to this, up and down.', above=0
    )
    bits: int = option(32, 'Bits of a number that travels.', at_least=2, at_most=32)
    largest_weight: int = option(
        1000,
        'With --weighting=examples, the most that a client counts for; it takes bits.',
        at_least=1,
    )

    def quantiser(self, cohort: int, weighting: str) -> Quantiser:
        """Returns how updates become integers.

        Args:
          cohort: How many clients are summed at most.
          weighting: `'examples'` or `'uniform'`.

        Raises:
          UserError: Their sum has not enough bits, or it is of fewer than 3 clients.
        """
        if cohort < 3:
            raise UserError(
                '--aggregation=secure hides what a client sends among others; give'
                ' --clients_per_round=3 or more'
            )
        largest = 1 if weighting == 'uniform' else self.largest_weight
        return Quantiser(self.clip, self.bits, cohort, largest)

    def aggregator(
        self, cohort: int, weighting: str
    ) -> tff.aggregators.WeightedAggregationFactory:
        """Returns the factory of the mean (see `quantiser`)."""
        return SecureMean(self.quantiser(cohort, weighting))

    def bytes(self, cohort: int, numbers: int) -> tuple[int, int]:
        """Returns what each client sends and gets of the protocol, in bytes.

        Args:
          cohort: How many clients take part.
          numbers: How many numbers are summed: of an update, and its weight.
        """
        spent = costs.of_protocol(cohort, numbers, neighbours(cohort), self.bits)
        return sum(spent.up), sum(spent.down)


class SecureMean(tff.aggregators.WeightedAggregationFactory):
    """The weighted mean of clients' integers, whose sum the server sees."""

    def __init__(self, quantiser: Quantiser):
        """Initializes the factory.

        Args:
          quantiser: How updates become integers; larger weights count as its largest.
        """
        self._quantiser = quantiser

    def create(
        self, value_type: tff.Type, weight_type: tff.Type
    ) -> tff.templates.AggregationProcess:
        """Returns the aggregation of values of a type."""
        quantiser = self._quantiser

        @tff.tensorflow.computation(value_type, weight_type)
        @tf.function(autograph=False)
        def integers(value, weight):
            weight = tf.round(tf.minimum(weight, float(quantiser.largest_weight)))
            whole = tf.cast(weight, tf.float64)
            flat = tf.cast(vectors.joined(value), tf.float64)
            clipped = tf.clip_by_value(flat, -quantiser.clip, quantiser.clip)
            most = whole * quantiser.levels
            units = (clipped / quantiser.clip + 1) * (most / 2)
            rounded = tf.minimum(tf.floor(units + 0.5), most)
            return tf.cast(tf.concat([rounded, whole[None]], 0), tf.int64)

        @tff.tensorflow.computation(integers.type_signature.result)
        @tf.function(autograph=False)
        def mean(total):
            weight = tf.cast(total[-1], tf.float64)
            numbers = tf.cast(total[:-1], tf.float64)
            share = tf.math.divide_no_nan(numbers, weight * quantiser.levels)
            flat = tf.where(weight > 0, (2 * share - 1) * quantiser.clip, 0.0)
            like = tff.types.type_to_tf_tensor_specs(value_type)
            return vectors.shaped(tf.cast(flat, tf.float32), like)

        @tff.federated_computation
        def initialize():
            return tff.federated_value((), tff.SERVER)

        @tff.federated_computation(
            initialize.type_signature.result,
            tff.FederatedType(value_type, tff.CLIENTS),
            tff.FederatedType(weight_type, tff.CLIENTS),
        )
        def next_round(state, value, weight):
            sent = tff.federated_map(integers, (value, weight))
            total = tff.federated_secure_sum_bitwidth(sent, quantiser.bits)
            nothing = tff.federated_value((), tff.SERVER)
            return tff.templates.MeasuredProcessOutput(
                state, tff.federated_map(mean, total), nothing
            )

        return tff.templates.AggregationProcess(initialize, next_round)

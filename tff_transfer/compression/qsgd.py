"""QSGD: levels of the share that each number has of the vector's norm.

Alistarh et al. 2017, "QSGD: Communication-efficient SGD via gradient quantization and
encoding", section 3.1: Q_s(v_i) = ||v|| sgn(v_i) xi_i, where xi_i is one of the two
multiples of 1/s beside |v_i| / ||v||, drawn so that it is right on average. The norm is
that of a bucket of consecutive numbers, as in the paper's experiments: the error grows
with the root of how many share one. Most levels are 0, so that entropy coding, for
which the paper has Elias's integers, saves much.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.compression.messages import Symbols
from tff_transfer.compression.scheme import Scheme, Shapes, total
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class QSGD:
    """QSGD."""

    bits: int = option(
        8,
        'Bits of a number, its sign included: s is 2^(bits - 1) - 1.',
        at_least=2,
        at_most=16,
    )

    bucket: int = option(512, 'How many numbers share a norm.', at_least=1)

    def build(self, shapes: Shapes) -> Scheme:
        """Makes the scheme."""
        most, count = 2 ** (self.bits - 1) - 1, total(shapes)
        buckets = -(-count // self.bucket)

        def of_each(norms):
            return tf.repeat(norms, self.bucket)[:count]

        def encode(vector, state):
            filled = tf.pad(vector, [[0, buckets * self.bucket - count]])
            norms = tf.norm(tf.reshape(filled, [buckets, self.bucket]), axis=1)
            share = tf.math.divide_no_nan(tf.abs(vector), of_each(norms))
            level = tf.floor(share * most + tf.random.uniform(vector.shape))
            signed = tf.sign(vector) * tf.minimum(level, most)
            symbols = Symbols(tf.cast(signed, tf.int32) + most, 2 * most + 1)
            return {'levels': symbols, 'norms': norms}, state

        def decode(message):
            signed = tf.cast(message['levels'].values - most, tf.float32)
            return of_each(message['norms']) * signed / most

        return Scheme(encode, decode)

"""QSGD: levels of the share that each number has of the vector's norm.

Alistarh et al. 2017, "QSGD: Communication-efficient SGD via gradient quantization and
encoding", section 3.1: Q_s(v_i) = ||v|| sgn(v_i) xi_i, where xi_i is one of the two
multiples of 1/s beside |v_i| / ||v||, drawn so that it is right on average. The whole
vector is one bucket. Most levels are 0, so that entropy coding, for which the paper
has Elias's integers, saves much.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.compression.messages import Symbols
from tff_transfer.compression.scheme import Scheme, Shapes
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

    def build(self, shapes: Shapes) -> Scheme:
        """Makes the scheme."""
        most = 2 ** (self.bits - 1) - 1

        def encode(vector, state):
            norm = tf.norm(vector)
            share = tf.math.divide_no_nan(tf.abs(vector), norm)
            level = tf.floor(share * most + tf.random.uniform(vector.shape))
            signed = tf.sign(vector) * tf.minimum(level, most)
            symbols = Symbols(tf.cast(signed, tf.int32) + most, 2 * most + 1)
            return {'levels': symbols, 'norm': norm}, state

        def decode(message):
            signed = message['levels'].values - most
            return message['norm'] * tf.cast(signed, tf.float32) / most

        return Scheme(encode, decode)

"""DRIVE: the signs of a rotated vector and one scale, a bit for each number.

Vargaftik et al. 2021, "DRIVE: One-bit distributed mean estimation", algorithm 1 with
its structured rotation (`rotation`) and its unbiased scale, ||x||^2 / ||R(x)||_1, with
which what is sent is right on average if the rotation is a uniform one.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.compression import rotation
from tff_transfer.compression.ef_sign import sign_bits, signs
from tff_transfer.compression.scheme import Scheme, Shapes, total


@dataclasses.dataclass(frozen=True)
class Drive:
    """DRIVE."""

    def build(self, shapes: Shapes) -> Scheme:
        """Makes the scheme."""
        count = total(shapes)

        def encode(vector, state):
            seed = rotation.draw_seed()
            rotated = rotation.rotate(vector, seed)
            scale = tf.math.divide_no_nan(
                tf.reduce_sum(tf.square(vector)), tf.reduce_sum(tf.abs(rotated))
            )
            return {'seed': seed, 'signs': sign_bits(rotated), 'scale': scale}, state

        def decode(message):
            vector = message['scale'] * signs(message['signs'])
            return rotation.rotate_back(vector, message['seed'], count)

        return Scheme(encode, decode)

"""TernGrad: each number becomes -1, 0 or 1 times the greatest of its layer.

Wen et al. 2017, "TernGrad: Ternary gradients to reduce communication in distributed
deep learning", algorithm 1: s_t sign(g) b with s_t = max |g| and b a draw that is 1 by
the chance |g| / s_t; and its layer-wise ternarizing, a scale for each layer (here each
tensor), and gradient clipping, to 2.5 of the layer's deviations, which brings a bias.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.compression.messages import Symbols
from tff_transfer.compression.scheme import Scheme, Shapes
from tff_transfer.options import option
from tff_transfer.vectors import split


@dataclasses.dataclass(frozen=True)
class TernGrad:
    """TernGrad."""

    clip: float = option(
        2.5,
        "Numbers are clipped to so many of their tensor's standard deviations; 0: not,"
        ' so that what is sent is right on average.',
        at_least=0,
    )

    def build(self, shapes: Shapes) -> Scheme:
        """Makes the scheme."""

        def ternary(vector):
            if self.clip:
                most = self.clip * tf.math.reduce_std(vector)
                vector = tf.clip_by_value(vector, -most, most)
            scale = tf.reduce_max(tf.abs(vector))
            chance = tf.math.divide_no_nan(tf.abs(vector), scale)
            drawn = tf.random.uniform(vector.shape) < chance
            return tf.sign(vector) * tf.cast(drawn, tf.float32), scale

        def encode(vector, state):
            found, scales = zip(*map(ternary, split(vector, shapes)), strict=True)
            flat = tf.concat([tf.reshape(each, [-1]) for each in found], 0)
            symbols = Symbols(tf.cast(flat, tf.int32) + 1, 3)
            return {'signs': symbols, 'scales': tf.stack(scales)}, state

        def decode(message):
            signs = tf.cast(message['signs'].values - 1, tf.float32)
            pairs = zip(
                tf.unstack(message['scales']), split(signs, shapes), strict=True
            )
            return tf.concat([tf.reshape(s * each, [-1]) for s, each in pairs], 0)

        return Scheme(encode, decode)

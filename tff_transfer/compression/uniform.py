"""Uniform quantisation between the least and the greatest number, in so many bits.

Suresh et al. 2017, "Distributed mean estimation with limited communication": section
2.2, stochastic k-level quantisation, which is unbiased: a number between two levels
becomes the upper one by the chance of how near it is; and section 3, the same after a
random rotation. Alternatively the nearest level, which has less error and a bias.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.compression import rotation
from tff_transfer.compression.messages import Symbols
from tff_transfer.compression.scheme import Scheme, Shapes, total
from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Uniform quantisation."""

    bits: int = option(8, 'Bits of a number.', at_least=1, at_most=16)
    rounding: str = option(
        'stochastic',
        'To which of two levels a number goes: stochastic, which is right on average;'
        ' or the nearest.',
        choices=('stochastic', 'nearest'),
    )
    rotate: bool = option(
        False,
        'Rotate at random first, so that no number is much larger than the others.',
    )

    def build(self, shapes: Shapes) -> Scheme:
        """Makes the scheme."""
        levels, count = 2**self.bits, total(shapes)

        def encode(vector, state):
            message = {}
            if self.rotate:
                message['seed'] = rotation.draw_seed()
                vector = rotation.rotate(vector, message['seed'])
            low, high = tf.reduce_min(vector), tf.reduce_max(vector)
            step = (high - low) / (levels - 1)
            above = tf.math.divide_no_nan(vector - low, step)
            nearest = self.rounding == 'nearest'
            up = 0.5 if nearest else tf.random.uniform(vector.shape)
            index = tf.clip_by_value(tf.floor(above + up), 0, levels - 1)
            message['levels'] = Symbols(tf.cast(index, tf.int32), levels)
            return {**message, 'range': tf.stack([low, step])}, state

        def decode(message):
            low, step = tf.unstack(message['range'])
            vector = low + step * tf.cast(message['levels'].values, tf.float32)
            if self.rotate:
                return rotation.rotate_back(vector, message['seed'], count)
            return vector

        return Scheme(encode, decode)


@dataclasses.dataclass(frozen=True)
class Uniform8:
    """The nearest of 256 levels, for what is no sum of many: it draws nothing."""

    def build(self, shapes: Shapes) -> Scheme:
        """Makes the scheme."""
        return Uniform(8, 'nearest').build(shapes)

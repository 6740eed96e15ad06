"""EDEN: a rotated vector, quantised as the normal numbers it is like, in b bits.

Vargaftik et al. 2022, "EDEN: Communication-efficient and robust distributed mean
estimation for federated learning", algorithm 1: the rotated vector, scaled to a
deviation of 1, goes to the nearest centroids of the Lloyd-Max quantiser of a standard
normal (Lloyd 1982, Max 1960), and the scale ||x||^2 / <R(x), Q(R(x))> makes it right
on average if the rotation is a uniform one. With one bit it is DRIVE.
"""

import dataclasses
import functools
import math

import numpy as np
import scipy.stats
import tensorflow as tf

from tff_transfer.compression import rotation
from tff_transfer.compression.messages import Symbols
from tff_transfer.compression.scheme import Scheme, Shapes, total
from tff_transfer.options import option

# Lloyd's iterations end when no centroid moves by more than this.
_MOVED = 1e-7


@dataclasses.dataclass(frozen=True)
class Eden:
    """EDEN."""

    bits: int = option(2, 'Bits of a number.', at_least=1, at_most=6)

    def build(self, shapes: Shapes) -> Scheme:
        """Makes the scheme."""
        count, levels = total(shapes), 2**self.bits
        levels_at = centroids(levels).astype(np.float32)

        def encode(vector, state):
            seed = rotation.draw_seed()
            rotated = rotation.rotate(vector, seed)
            squares = tf.reduce_sum(tf.square(vector))
            deviation = tf.sqrt(squares / rotation.length(count))
            borders = (levels_at[1:] + levels_at[:-1]) / 2
            like_normal = tf.math.divide_no_nan(rotated, deviation)
            index = tf.searchsorted(borders, like_normal, side='right')
            along = tf.reduce_sum(rotated * tf.gather(levels_at, index))
            scale = tf.math.divide_no_nan(squares, along)
            return {
                'seed': seed,
                'levels': Symbols(index, levels),
                'scale': scale,
            }, state

        def decode(message):
            vector = tf.gather(levels_at, message['levels'].values)
            vector *= message['scale']
            return rotation.rotate_back(vector, message['seed'], count)

        return Scheme(encode, decode)


@functools.lru_cache
def centroids(levels: int) -> np.ndarray:
    """Returns the levels that lose least of standard normal numbers, ascending.

    Args:
      levels: How many.
    """
    found = scipy.stats.norm.ppf((np.arange(levels) + 0.5) / levels)
    moved = math.inf
    while moved > _MOVED:
        borders = np.concatenate([[-np.inf], (found[1:] + found[:-1]) / 2, [np.inf]])
        mass = np.diff(scipy.stats.norm.cdf(borders))
        means = -np.diff(scipy.stats.norm.pdf(borders)) / mass
        found, moved = means, np.abs(means - found).max()
    return found

"""What a client does to its own update before anybody sees it: local randomizers.

Each takes an update as one vector and gives what is sent, of which the mean over
clients is that of what was clipped (`privunit`: of the updates' directions). They draw
from TensorFlow, so that the compiled runtime makes draws functions of seed, round and
client.
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from scipy import optimize, stats


def gaussian(clip: float, noise_multiplier: float) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the Gaussian mechanism on updates clipped in the Euclidean norm.

    Args:
      clip: The clipping norm.
      noise_multiplier: The noise's standard deviation to it.
    """

    def randomize(vector: tf.Tensor) -> tf.Tensor:
        noise = tf.random.normal(tf.shape(vector), stddev=noise_multiplier * clip)
        return tf.clip_by_norm(vector, clip) + noise

    return randomize


def laplace(clip: float, noise_multiplier: float) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the Laplace mechanism on updates clipped in the norm of absolute values.

    Args:
      clip: The clipping norm.
      noise_multiplier: The noise's scale to it.
    """

    def randomize(vector: tf.Tensor) -> tf.Tensor:
        norm = tf.reduce_sum(tf.abs(vector))
        clipped = vector * tf.minimum(1.0, tf.math.divide_no_nan(clip, norm))
        # The difference of two exponential draws.
        drawn = tf.random.gamma([2, *vector.shape], 1.0)
        return clipped + noise_multiplier * clip * (drawn[0] - drawn[1])

    return randomize


def privunit_share(epsilon: float, threshold: float) -> float:
    """Returns the probability of a draw above a threshold that has so much epsilon.

    Args:
      epsilon: The epsilon of one use, above 0.
      threshold: What the component along the update must be above, in its standard
        deviations.

    Returns:
      q, with q / (1 - q) exp(epsilon) to the odds without an update.
    """
    # Odds in logarithms: the densities above and below differ by exp(epsilon).
    log_odds = epsilon + stats.norm.logsf(threshold) - stats.norm.logcdf(threshold)
    return 1 / (1 + math.exp(-log_odds))


def _mean_component(epsilon: float, threshold: float) -> float:
    """Returns the mean component along the update, in standard deviations."""
    share = privunit_share(epsilon, threshold)
    above = share / stats.norm.sf(threshold)
    below = (1 - share) / stats.norm.cdf(threshold)
    return stats.norm.pdf(threshold) * (above - below)


def privunit(clip: float, epsilon: float) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns PrivUnitG: the update's direction alone, with pure epsilon.

    Asi, Feldman & Talwar 2022, "Optimal algorithms for mean estimation under local
    differential privacy", algorithm 2: a normal vector whose component along the
    update is above a threshold more often than it would be. The threshold is taken of
    which that component is the largest on average: that of the least variance, but for
    few coordinates.

    Args:
      clip: The norm that the direction is sent with.
      epsilon: The epsilon of one use, above 0.
    """
    found = optimize.minimize_scalar(
        lambda threshold: -_mean_component(epsilon, threshold),
        bounds=(0.0, math.sqrt(2 * epsilon) + 4.0),
        method='bounded',
    )
    threshold = float(found.x)
    share = privunit_share(epsilon, threshold)
    mean = _mean_component(epsilon, threshold)
    under, over = stats.norm.cdf(threshold), stats.norm.sf(threshold)

    def randomize(vector: tf.Tensor) -> tf.Tensor:
        direction = tf.math.l2_normalize(vector, epsilon=1e-30)
        # By the inverse of the distribution, on either side of the threshold; from its
        # mirror image above, where float64 can tell values from 1 no more.
        uniform = tf.random.uniform([2], dtype=tf.float64)
        above = -tf.math.ndtri(over * (1 - uniform[0]))
        below = tf.math.ndtri(tf.maximum(under * uniform[0], np.finfo(float).tiny))
        component = tf.cast(tf.where(uniform[1] < share, above, below), tf.float32)
        drawn = tf.random.normal(tf.shape(vector))
        across = drawn - tf.reduce_sum(drawn * direction) * direction
        return (component * direction + across) * clip / mean

    return randomize

"""Min-max: as far from the mean as honest updates are from each other.

Shejwalkar, Houmansadr 2021, "Manipulating the Byzantine: optimizing model poisoning
attacks and defenses for federated learning", equation 4 (Min-Max, AGR-agnostic): all
hostile clients send the mean of honest updates plus gamma times a perturbation, with
the largest gamma for which no honest update is further from that than the two honest
ones that are furthest from each other. The paper finds gamma by halving steps
(algorithm 1); it is the least of the roots of one quadratic equation a client, which is
what is computed. Who attacks knows all honest updates of the round.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class MinMax:
    """Min-max."""

    perturbation: str = option(
        'std',
        'Where to: against the deviation of each coordinate (std), the unit vector of'
        ' the mean (unit) or its signs (sign).',
        choices=('std', 'unit', 'sign'),
    )

    def forged(self, honest, hostile):
        """Returns what all hostile clients send (as of `ALIE`)."""
        mean = tf.reduce_mean(honest, 0)
        apart = honest - mean
        towards = -self._direction(mean, honest)
        products = tf.matmul(apart, apart, transpose_b=True)
        squares = tf.linalg.diag_part(products)
        furthest = tf.reduce_max(squares[:, None] + squares - 2 * products)
        # |gamma p - apart|^2 = furthest, for each client.
        p_squared = tf.reduce_sum(towards**2)
        along = tf.linalg.matvec(apart, towards)
        left = tf.maximum(furthest - squares, 0)
        roots = along + tf.sqrt(along**2 + p_squared * left)
        gamma = tf.math.divide_no_nan(tf.reduce_min(roots), p_squared)
        return mean + gamma * towards

    def _direction(self, mean, honest):
        if self.perturbation == 'std':
            return tf.math.reduce_std(honest, 0)
        if self.perturbation == 'unit':
            return tf.math.divide_no_nan(mean, tf.norm(mean))
        return tf.sign(mean)

"""A little is enough: as far from the mean as stays among the honest.

Baruch, Baruch, Goldberg 2019, "A little is enough: circumventing defenses for
distributed learning", algorithm 3. All hostile clients send the mean of honest updates
less z of their deviations in each coordinate. z is the most with which, of as many
normal ones as there are honest clients, so many are further off that these and the
hostile ones are a majority. Who attacks knows all honest updates of the round.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.options import option


@dataclasses.dataclass(frozen=True)
class ALIE:
    """A little is enough."""

    z: float | None = option(
        None,
        'How many deviations from the mean; by the numbers of clients if not given.',
        above=0,
    )

    def forged(self, honest, hostile):
        """Returns what all hostile clients send, [size].

        Args:
          honest: The honest updates of the round, float32 [clients, size].
          hostile: How many hostile clients there are, int32 [].
        """
        z = z_max(tf.shape(honest)[0], hostile) if self.z is None else self.z
        return tf.reduce_mean(honest, 0) - z * tf.math.reduce_std(honest, 0)


def z_max(honest, hostile):
    """Returns the paper's z_max, float32 [], of numbers of clients, int32 [].

    Of n clients with m hostile ones, s = floor(n/2 + 1) - m honest ones must be won,
    and z_max is where the normal distribution function is (n - m - s) / (n - m). That
    is kept half a client away from 0 and 1, where no z is: it is 1 where the hostile
    ones are a majority themselves.
    """
    honest = tf.cast(honest, tf.float32)
    hostile = tf.cast(hostile, tf.float32)
    won = tf.floor((honest + hostile) / 2 + 1) - hostile
    half = 0.5 / honest
    return tf.math.ndtri(tf.clip_by_value(1 - won / honest, half, 1 - half))

"""Half precision: each number as float16, in two bytes instead of four.

IEEE 754's binary16, rounded to the nearest. What is beyond 65504 becomes infinite.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.compression.scheme import Scheme, Shapes


@dataclasses.dataclass(frozen=True)
class Float16:
    """Half precision."""

    def build(self, shapes: Shapes) -> Scheme:
        """Makes the scheme."""
        return Scheme(
            lambda vector, state: ({'values': tf.cast(vector, tf.float16)}, state),
            lambda message: tf.cast(message['values'], tf.float32),
        )

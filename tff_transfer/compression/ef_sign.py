"""EF-signSGD: the sign of each number, their mean size, and error feedback.

Karimireddy et al. 2019, "Error feedback fixes SignSGD and other gradient compression
schemes", algorithm 1: p = update + e, sent as (||p||_1 / d) sign(p), and e is what that
leaves. The sign of 0 is +1 here, as each takes one bit.
"""

import dataclasses

import tensorflow as tf

from tff_transfer.compression.messages import Symbols
from tff_transfer.compression.scheme import Scheme, Shapes


@dataclasses.dataclass(frozen=True)
class EFSign:
    """EF-signSGD."""

    def build(self, shapes: Shapes) -> Scheme:
        """Makes the scheme."""

        def encode(vector, state):
            return {
                'signs': sign_bits(vector),
                'scale': tf.reduce_mean(tf.abs(vector)),
            }, state

        def decode(message):
            return message['scale'] * signs(message['signs'])

        return Scheme(encode, decode, feedback=True)


def sign_bits(vector) -> Symbols:
    """Returns for each number whether it is 0 or more."""
    return Symbols(tf.cast(vector >= 0, tf.int32), 2)


def signs(bits: Symbols):
    """Returns +1 and -1 of what `sign_bits` gave, float32 [d]."""
    return 2 * tf.cast(bits.values, tf.float32) - 1

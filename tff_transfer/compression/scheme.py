"""What a scheme is, and how structures of tensors go through one.

A scheme is two pure TensorFlow functions between a client's flat update and a message
(`messages`), each in its own file of this folder. Its options are a dataclass whose
`build` makes it for the shapes of the tensors that the update joins.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tff_transfer.compression.messages import Message, coded_bytes, packed_bytes

Shapes = Sequence[Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Scheme:
    """A lossy code of vectors.

    Attributes:
      encode: Makes of a vector, float32 [d], and the sender's state a message and the
        next state. What it draws and the receiver must know is in the message, or
        follows from a seed in it.
      decode: Makes the vector that the receiver has of a message alone, float32 [d].
      state: What the sender's state is at first, a structure of arrays.
      feedback: Whether what was lost is added to what is sent next (error feedback).
    """

    encode: Callable[[Any, Any], tuple[Message, Any]]
    decode: Callable[[Message], Any]
    state: Any = ()
    feedback: bool = False


class Memory(NamedTuple):
    """What a client keeps of what it sent.

    Attributes:
      lost: What the receiver does not have yet, float32 [d]; nothing without error
        feedback.
      state: The scheme's own.
    """

    lost: Any
    state: Any


class RoundTrip(NamedTuple):
    """What comes of a round trip.

    Attributes:
      decoded: What the receiver has, like what was sent.
      memory: What the sender keeps.
      coded_bytes: About how many bytes it takes entropy coded, int64 [].
    """

    decoded: Any
    memory: Any
    coded_bytes: Any


@dataclasses.dataclass(frozen=True)
class Channel:
    """Sends structures of float32 tensors of known shapes through a scheme.

    Tensors that stand together are sent as one vector: all of a tuple, but each part of
    a structure of several, since these may be of different scales.

    Attributes:
      options: A scheme's options.
      like: The structure, with `shape`s.
    """

    options: Any
    like: Any

    @functools.cached_property
    def _schemes(self) -> list[Scheme]:
        return [
            self.options.build([tuple(leaf.shape) for leaf in tf.nest.flatten(part)])
            for part in self._parts(self.like)
        ]

    @functools.cached_property
    def memory(self) -> tuple[Memory, ...]:
        """What a sender keeps before its first message, a structure of arrays."""
        return tuple(
            Memory(np.zeros(_size(part), np.float32) if of.feedback else (), of.state)
            for of, part in zip(self._schemes, self._parts(self.like), strict=True)
        )

    @property
    def plain_bytes(self) -> int:
        """How many bytes a value takes as it is."""
        return 4 * _size(self.like)

    @functools.cached_property
    def packed_bytes(self) -> int:
        """How many bytes a message takes packed."""
        with tf.Graph().as_default():
            zeros = tf.nest.map_structure(lambda leaf: tf.zeros(leaf.shape), self.like)
            return sum(
                packed_bytes(scheme.encode(_joined(part), memory.state)[0])
                for scheme, part, memory in zip(
                    self._schemes, self._parts(zeros), self.memory, strict=True
                )
            )

    def send(self, value, memory: Sequence[Memory]) -> RoundTrip:
        """Sends a value.

        Args:
          value: A structure like `like`, of float32 tensors.
          memory: What the sender keeps.
        """
        parts = [
            _sent(scheme, part, before)
            for scheme, part, before in zip(
                self._schemes, self._parts(value), memory, strict=True
            )
        ]
        flat = [leaf for part in parts for leaf in tf.nest.flatten(part.decoded)]
        return RoundTrip(
            tf.nest.pack_sequence_as(value, flat),
            tuple(part.memory for part in parts),
            tf.add_n([part.coded_bytes for part in parts]),
        )

    def _parts(self, value) -> Sequence:
        nested = any(tf.nest.is_nested(part) for part in value)
        return value if nested else (value,)


def _sent(scheme: Scheme, part, memory: Memory) -> RoundTrip:
    vector = _joined(part)
    if scheme.feedback:
        vector += memory.lost
    message, state = scheme.encode(vector, memory.state)
    decoded = scheme.decode(message)
    lost = vector - decoded if scheme.feedback else ()
    leaves = split(decoded, [leaf.shape for leaf in tf.nest.flatten(part)])
    return RoundTrip(
        tf.nest.pack_sequence_as(part, leaves),
        Memory(lost, state),
        coded_bytes(message),
    )


def _joined(part):
    """Returns all of a structure's tensors as one vector."""
    return tf.concat([tf.reshape(leaf, [-1]) for leaf in tf.nest.flatten(part)], 0)


def _size(structure) -> int:
    return total([leaf.shape for leaf in tf.nest.flatten(structure)])


def split(vector, shapes: Shapes) -> list:
    """Returns the tensors of some shapes that a vector joins."""
    parts = tf.split(vector, [math.prod(shape) for shape in shapes])
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]


def total(shapes: Shapes) -> int:
    """Returns how many numbers tensors of some shapes have."""
    return sum(map(math.prod, shapes))

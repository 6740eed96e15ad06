"""How structures of tensors go through schemes, and what their senders remember."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tff_transfer import vectors
from tff_transfer.compression.messages import coded_bytes, packed_bytes
from tff_transfer.compression.scheme import Scheme, total
from tff_transfer.errors import UserError


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
      like: The structure, of tensors or specs of them.

    Raises:
      UserError: There is no tensor, or one of another dtype.
    """

    options: Any
    like: Any

    def __post_init__(self):
        leaves = tf.nest.flatten(self.like)
        if not leaves or any(leaf.dtype != tf.float32 for leaf in leaves):
            raise UserError(
                'there is nothing to compress where the method sends no weights, or'
                ' others than float32; use another method, or no compression'
            )

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
                packed_bytes(scheme.encode(vectors.joined(part), memory.state)[0])
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
    vector = vectors.joined(part)
    if scheme.feedback:
        vector += memory.lost
    message, state = scheme.encode(vector, memory.state)
    decoded = scheme.decode(message)
    lost = vector - decoded if scheme.feedback else ()
    return RoundTrip(
        vectors.shaped(decoded, part),
        Memory(lost, state),
        coded_bytes(message),
    )


def _size(structure) -> int:
    return total([leaf.shape for leaf in tf.nest.flatten(structure)])


def of_floats(options, structure) -> Channel:
    """Returns how the float32 tensors of a structure travel, each by itself.

    Args:
      options: A scheme's options.
      structure: Tensors, or specs of them.
    """
    leaves = tf.nest.flatten(structure)
    floats = tuple((leaf,) for leaf in leaves if leaf.dtype == tf.float32)
    return Channel(options, floats)


def send_floats(options, structure) -> RoundTrip:
    """Sends the float32 tensors of a structure, each by itself, of a new sender.

    Args:
      options: A scheme's options.
      structure: Tensors, of which the others stay as they are.
    """
    channel = of_floats(options, structure)
    sent = channel.send(channel.like, channel.memory)
    decoded = iter(tf.nest.flatten(sent.decoded))
    found = [
        next(decoded) if leaf.dtype == tf.float32 else leaf
        for leaf in tf.nest.flatten(structure)
    ]
    return sent._replace(decoded=tf.nest.pack_sequence_as(structure, found))

"""Structures of tensors as one vector, and back."""

import math
from collections.abc import Sequence

import tensorflow as tf

Shapes = Sequence[Sequence[int]]


def joined(structure):
    """Returns all of a structure's tensors as one vector."""
    return tf.concat([tf.reshape(leaf, [-1]) for leaf in tf.nest.flatten(structure)], 0)


def split(vector, shapes: Shapes) -> list:
    """Returns the tensors of some shapes that a vector joins."""
    parts = tf.split(vector, [math.prod(shape) for shape in shapes])
    return [tf.reshape(part, shape) for part, shape in zip(parts, shapes, strict=True)]


def shaped(vector, like):
    """Returns the structure that a vector joins.

    Args:
      vector: What `joined` gave.
      like: A structure of tensors, or specs of them.
    """
    leaves = split(vector, [leaf.shape for leaf in tf.nest.flatten(like)])
    return tf.nest.pack_sequence_as(like, leaves)

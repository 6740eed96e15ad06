"""What each client gives, kept in tensor arrays: its values may differ in shape.

Each leaf has one tensor array, stacked at the end, where its shape is known, and two,
of the entries and of the shapes, where it is not. A sequence has one, of the variant
tensors of its `tf.data.Dataset`s.
"""

import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer.runtime import layouts


def is_stacked(leaf: tff.TensorType | tff.SequenceType) -> bool:
    """Returns whether a leaf has one tensor array."""
    return isinstance(leaf, tff.SequenceType) or layouts.layout(leaf) == 'stacked'


def make(leaf: tff.TensorType | tff.SequenceType, clients) -> list[tf.TensorArray]:
    """Returns the empty tensor arrays of a leaf, for so many clients."""
    size = tf.cast(clients, tf.int32)
    if isinstance(leaf, tff.SequenceType):
        return [tf.TensorArray(tf.variant, size, element_shape=[])]
    dtype = layouts.tf_dtype(leaf)
    if is_stacked(leaf):
        return [tf.TensorArray(dtype, size, element_shape=leaf.shape)]
    rank = None if leaf.shape is None else len(leaf.shape)
    return [
        tf.TensorArray(dtype, size, element_shape=[None], infer_shape=False),
        tf.TensorArray(tf.int64, size, element_shape=[rank], infer_shape=False),
    ]


def group(stacks: list, leaf_types: list) -> list[list]:
    """Returns the tensor arrays of each leaf, from a flat list."""
    stacks = iter(stacks)
    return [
        [next(stacks)] if is_stacked(leaf) else [next(stacks), next(stacks)]
        for leaf in leaf_types
    ]


def write(stacks: list[tf.TensorArray], client, value, leaf) -> list[tf.TensorArray]:
    """Returns the tensor arrays with one client's value."""
    index = tf.cast(client, tf.int32)
    if isinstance(leaf, tff.SequenceType):
        return [stacks[0].write(index, value.variant())]
    if is_stacked(leaf):
        return [stacks[0].write(index, value)]
    entries, shapes = stacks
    return [
        entries.write(index, tf.reshape(value, [-1])),
        shapes.write(index, tf.shape(value, tf.int64)),
    ]


def read(stacks: list[tf.TensorArray], leaf) -> list[tf.Tensor]:
    """Returns the tensors that tensor arrays hold."""
    if is_stacked(leaf):
        return [stacks[0].stack()]
    return [stacks[0].concat(), stacks[1].stack()]

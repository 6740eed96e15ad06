"""Structures of arrays and tensors as a whole."""

import tensorflow as tf
import tensorflow_federated as tff


def type_of(structure) -> tff.Type:
    """Returns the type of a structure of arrays."""
    specs = tf.nest.map_structure(
        lambda array: tf.TensorSpec(array.shape, array.dtype), structure
    )
    return tff.types.tensorflow_to_type(specs)


def all_finite(structure):
    """Returns whether all floating-point numbers of a structure are, bool []."""
    leaves = [leaf for leaf in tf.nest.flatten(structure) if leaf.dtype.is_floating]
    return tf.reduce_all([tf.reduce_all(tf.math.is_finite(leaf)) for leaf in leaves])


def zero_unless(condition, structure):
    """Returns a structure, or zeros of the same shapes."""
    # Not tf.where, which copies what is large.
    return tf.cond(
        condition,
        lambda: tf.nest.map_structure(tf.identity, structure),
        lambda: tf.nest.map_structure(tf.zeros_like, structure),
    )

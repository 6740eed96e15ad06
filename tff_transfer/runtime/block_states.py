"""The states of blocks of clients in TensorFlow's lists: their shapes may differ.

Each tensor of a state has a list, with an element for each block; between functions it
is a variant tensor.
"""

import tensorflow as tf
from tensorflow.python.ops import list_ops


def make(specs: list[tf.TensorSpec], blocks: tf.Tensor) -> list[tf.TensorArray]:
    """Returns lists for so many blocks, to be written."""
    return [
        tf.TensorArray(s.dtype, blocks, element_shape=s.shape, infer_shape=False)
        for s in specs
    ]


def of_block(
    lists: list[tf.Tensor], specs: list[tf.TensorSpec], block: tf.Tensor | int
) -> list[tf.Tensor]:
    """Returns one block's state."""
    return [
        list_ops.tensor_list_get_item(states, block, spec.dtype, spec.shape)
        for states, spec in zip(lists, specs, strict=True)
    ]


def replaced(
    lists: list[tf.Tensor], state: list[tf.Tensor], block: tf.Tensor
) -> list[tf.Tensor]:
    """Returns lists with another state of one block."""
    return [
        list_ops.tensor_list_set_item(states, block, value)
        for states, value in zip(lists, state, strict=True)
    ]


def joined(
    lists: list[tf.Tensor], more: list[tf.Tensor], specs: list[tf.TensorSpec]
) -> list[tf.Tensor]:
    """Returns lists of some blocks and the next ones."""
    return [
        tf.raw_ops.TensorListConcatLists(input_a=a, input_b=b, element_dtype=s.dtype)
        for a, b, s in zip(lists, more, specs, strict=True)
    ]

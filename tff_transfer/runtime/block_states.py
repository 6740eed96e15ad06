"""The states of blocks of clients in TensorFlow's lists: their shapes may differ.

Each tensor of a state has a list, with an element for each block; between functions it
is a variant tensor. What sessions give is side by side instead, an array [blocks, ...].
"""

import numpy as np
import tensorflow as tf
from tensorflow.python.ops import list_ops

from tff_transfer import aligned


def make(specs: list[tf.TensorSpec], blocks: tf.Tensor) -> list[tf.TensorArray]:
    """Returns lists for so many blocks, to be written."""
    return [
        tf.TensorArray(s.dtype, blocks, element_shape=s.shape, infer_shape=False)
        for s in specs
    ]


def from_arrays(arrays: list[tf.Tensor]) -> list[tf.Tensor]:
    """Returns lists of states that are side by side."""
    return [list_ops.tensor_list_from_tensor(a, a.shape[1:]) for a in arrays]


def of_block(
    lists: list[tf.Tensor] | list[np.ndarray],
    specs: list[tf.TensorSpec],
    block: tf.Tensor | int,
) -> list[tf.Tensor] | list[np.ndarray]:
    """Returns one block's state."""
    if are_arrays(lists):
        return [np.asarray(states[block]) for states in lists]
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
    lists: list[tf.Tensor] | list[np.ndarray],
    more: list[tf.Tensor] | list[np.ndarray],
    specs: list[tf.TensorSpec],
) -> list[tf.Tensor] | list[np.ndarray]:
    """Returns the states of some blocks and the next ones."""
    if are_arrays(lists):
        return [aligned.concatenate(pair) for pair in zip(lists, more, strict=True)]
    return [
        tf.raw_ops.TensorListConcatLists(input_a=a, input_b=b, element_dtype=s.dtype)
        for a, b, s in zip(lists, more, specs, strict=True)
    ]


def are_arrays(lists: list[tf.Tensor] | list[np.ndarray]) -> bool:
    """Returns whether states are side by side."""
    return bool(lists) and isinstance(lists[0], np.ndarray)

"""The states of blocks of clients in TensorFlow's lists: their shapes may differ.

Each tensor of a state has a list, with an element for each block; between functions it
is a variant tensor. What sessions give, and what travels between machines, is side by
side instead, an array [blocks, ...].
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


def chosen(
    lists: list[tf.Tensor], specs: list[tf.TensorSpec], blocks: tf.Tensor
) -> list[tf.Tensor]:
    """Returns lists of some blocks' states, of those in `blocks`, int32 [chosen]."""
    count = tf.size(blocks)

    def body(number, new):
        state = of_block(lists, specs, blocks[number])
        new = [n.write(number, s) for n, s in zip(new, state, strict=True)]
        return number + 1, new

    _, new = tf.while_loop(
        lambda number, _: number < count,
        body,
        (0, make(specs, count)),
        parallel_iterations=1,
    )
    return [n.flow for n in new]


def side_by_side(lists: list[tf.Tensor], specs: list[tf.TensorSpec]) -> list[tf.Tensor]:
    """Returns the states in lists as arrays [blocks, ...]; their shapes are known."""
    return [
        list_ops.tensor_list_stack(of, spec.dtype, element_shape=spec.shape)
        for of, spec in zip(lists, specs, strict=True)
    ]


def joined(
    parts: list[list[tf.Tensor]] | list[list[np.ndarray]], specs: list[tf.TensorSpec]
) -> list[tf.Tensor] | list[np.ndarray]:
    """Returns the states of some blocks, of the next ones, and so on, as one's."""
    if len(parts) == 1:
        return parts[0]
    if are_arrays(parts[0]):
        return [aligned.concatenate(of_all) for of_all in zip(*parts, strict=True)]
    lists = parts[0]
    for more in parts[1:]:
        lists = [
            tf.raw_ops.TensorListConcatLists(
                input_a=a, input_b=b, element_dtype=s.dtype
            )
            for a, b, s in zip(lists, more, specs, strict=True)
        ]
    return lists


def can_be_arrays(specs: list[tf.TensorSpec]) -> bool:
    """Returns whether states can be side by side."""
    return all(spec.shape.is_fully_defined() for spec in specs)


def are_arrays(lists: list[tf.Tensor] | list[np.ndarray]) -> bool:
    """Returns whether states are side by side."""
    return bool(lists) and isinstance(lists[0], np.ndarray)

"""What the functions of clients give, as the Python values of each client."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.core.impl.utils import tensorflow_utils

from tff_transfer import aligned
from tff_transfer.runtime import layouts
from tff_transfer.runtime.layouts import ClientTensors
from tff_transfer.runtime.sequences import DatasetSequence
from tff_transfer.runtime.tensors import to_array


def collect(results: Iterator[tf.Tensor], leaf: tff.Type) -> list:
    """Returns what a block's clients gave for one leaf: arrays, or variant tensors."""
    if isinstance(leaf, tff.SequenceType):
        return tf.unstack(next(results))
    if layouts.layout(leaf) == 'stacked':
        return [to_array(next(results))]
    return [to_array(next(results)), to_array(next(results))]


def join(column: list[list], leaf: tff.Type, count: int) -> ClientTensors | list:
    """Returns the values of all clients from what `collect` gave for each block."""
    if isinstance(leaf, tff.SequenceType):
        return [dataset(variant, leaf) for block in column for variant in block]
    if layouts.layout(leaf) == 'stacked':
        return ClientTensors((aligned.concatenate([c[0] for c in column]),), count)
    values = []
    for entries, shapes in column:
        ends = np.cumsum(np.prod(shapes, axis=1, dtype=np.int64))[:-1]
        values += [
            part.reshape(shape)
            for part, shape in zip(np.split(entries, ends), shapes, strict=True)
        ]
    return ClientTensors(layouts.concatenate(values, leaf), count)


def unstack(column: ClientTensors | list) -> Iterator:
    """Yields each client's value."""
    if isinstance(column, list):
        yield from column
        return
    values, *rest = column.arrays
    for client in range(column.clients):
        if not rest:
            yield values[client]
            continue
        value = values[rest[0][client] : rest[0][client + 1]]
        yield value.reshape(rest[1][client]) if len(rest) > 1 else value


def dataset(variant: tf.Tensor, leaf: tff.SequenceType) -> tf.data.Dataset:
    """Returns a sequence as TFF gives it: named elements are ordered as its type's."""
    sequence = DatasetSequence(leaf.element, variant)
    return tensorflow_utils.coerce_dataset_elements_to_tff_type_spec(
        sequence.dataset(), leaf.element
    )

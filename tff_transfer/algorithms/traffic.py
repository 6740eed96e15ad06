"""How many bytes travel in a round."""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.common_libs import structure
from tensorflow_federated.python.core.impl.types import type_conversions

from tff_transfer.algorithms.computations import Computations
from tff_transfer.algorithms.structures import type_of
from tff_transfer.compression import channel


class Traffic(NamedTuple):
    """What each client sends and gets in a round, in bytes.

    Attributes:
      up: What it sends, as the values lie in memory or, compressed, packed.
      down: What it gets.
      beside: For each direction that is compressed, `up` or `down`, how many of these
        are not.
    """

    up: int
    down: int
    beside: Mapping[str, int]


def traffic_of(of: Computations, weighted: bool) -> Traffic:
    """Returns how many bytes the rounds of a method take, by their types.

    Args:
      of: The method's computations.
      weighted: Whether clients send weights.
    """
    sent = of.work.type_signature.result
    message, beside = of.message.type_signature.result, {}
    travelling = (
        its
        for name, its in structure.iter_elements(sent.sums)
        if name not in of.method.computed
    )
    up, delta = sum(map(bytes_of, travelling)), bytes_of(sent.delta)
    if weighted and delta:
        up += bytes_of(sent.weight)
    if of.method.gather is not None:
        up += bytes_of(of.gather.type_signature.result)
    if of.up is not None:
        up += delta - of.up.plain_bytes
        delta, beside['up'] = of.up.packed_bytes, up
    down = bytes_of(message.statistics) + bytes_of(of.gathered_type)
    broadcast = bytes_of(message.of_method)
    if of.compression_down is not None:
        through = channel.of_floats(of.compression_down, _specs(message.of_method))
        down += broadcast - through.plain_bytes
        broadcast, beside['down'] = through.packed_bytes, down
    elif of.method.message is not None:
        broadcast = bytes_of(type_of(of.method.message))
    if of.sub_networks is not None:
        delta += of.sub_networks.bytes - bytes_of(type_of(of.context.initial))
        broadcast = of.sub_networks.bytes_down
    return Traffic(up + delta, down + broadcast, beside)


def bytes_of(type_spec: tff.Type) -> int:
    """Returns how many bytes a value of a type takes, as its tensors lie in memory."""
    return sum(x.shape.num_elements() * x.dtype.size for x in _specs(type_spec))


def _specs(type_spec: tff.Type) -> list[tf.TensorSpec]:
    return tf.nest.flatten(type_conversions.type_to_tf_tensor_specs(type_spec))

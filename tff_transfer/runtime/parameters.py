"""A parameter's parts, of the server and of clients, and one client's values of it."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.common_libs import structure

from tff_transfer.runtime import layouts
from tff_transfer.runtime.plan import of_clients
from tff_transfer.runtime.sequences import from_arrays, one_of, pack


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the parameter that is either the server's or of each client.

    Attributes:
      type: Its type, without a placement.
      at_clients: Whether each client has a value of its own.
    """

    type: tff.Type
    at_clients: bool


def parameter_parts(type_spec: tff.Type | None) -> list[Part]:
    """Returns the parts of a parameter, in order."""
    return [
        Part(
            leaf.member if isinstance(leaf, tff.FederatedType) else leaf,
            of_clients(leaf),
        )
        for leaf in layouts.leaf_types(type_spec)
    ]


def member(type_spec: tff.Type) -> tff.Type:
    """Returns a type without its placements."""
    if isinstance(type_spec, tff.FederatedType):
        return type_spec.member
    if isinstance(type_spec, tff.StructType):
        return tff.StructType(
            [
                (n, member(e)) if n else member(e)
                for n, e in structure.iter_elements(type_spec)
            ]
        )
    return type_spec


def opened(type_spec: tff.Type) -> tff.Type:
    """Returns a type in which federated types are leaves, of any type."""
    if isinstance(type_spec, tff.FederatedType):
        return tff.TensorType(np.int32)
    if isinstance(type_spec, tff.StructType):
        elements = [
            (n, opened(e)) if n else opened(e)
            for n, e in structure.iter_elements(type_spec)
        ]
        if type_spec.python_container is None:
            return tff.StructType(elements)
        return tff.types.StructWithPythonType(elements, type_spec.python_container)
    return type_spec


def take(flat: Iterator, specs: list) -> list:
    """Returns the next tensors, one for each of some specs."""
    return [next(flat) for _ in specs]


def client_value(arrays: list[tf.Tensor], type_spec: tff.Type, client):
    """Returns one client's value from the arrays of all."""
    arrays = iter(arrays)
    parts = []
    for leaf in layouts.leaf_types(type_spec):
        mine = take(arrays, layouts.client_specs(leaf))
        if isinstance(leaf, tff.SequenceType):
            parts.append(from_arrays(leaf.element, mine, client))
        else:
            parts.append(one_of(mine, leaf, client))
    return pack(iter(parts), type_spec)

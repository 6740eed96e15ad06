"""Python containers of a type, made of leaves by functions that are prepared once."""

import collections
from collections.abc import Callable, Iterator

import attrs
import tensorflow_federated as tff
from tensorflow_federated.python.common_libs import structure
from tensorflow_federated.python.core.impl.types import type_conversions

from tff_transfer.runtime.parameters import opened
from tff_transfer.runtime.plan import of_clients

Maker = Callable[[Iterator], object]


def maker(type_spec: tff.Type) -> Maker:
    """Returns what makes a value of a type of its leaves, in order.

    It gives what TFF's `type_to_py_container` does, which looks at the type and its
    containers anew for each value. What is placed at clients is one leaf.
    """
    if isinstance(type_spec, tff.FederatedType) and not of_clients(type_spec):
        return maker(type_spec.member)
    if not isinstance(type_spec, tff.StructType):
        return next
    elements = structure.to_elements(type_spec)
    names = [name for name, _ in elements]
    parts = [maker(element) for _, element in elements]
    container = type_spec.python_container
    if container is None:
        container = collections.OrderedDict if any(names) else tuple
    by_name = hasattr(container, '_fields') or attrs.has(container)
    if all(names) and by_name:
        return lambda flat: container(
            **{n: part(flat) for n, part in zip(names, parts, strict=True)}
        )
    if all(names) and issubclass(container, dict):
        return lambda flat: container(
            [(n, part(flat)) for n, part in zip(names, parts, strict=True)]
        )
    if not any(names) and issubclass(container, list | tuple) and not by_name:
        return lambda flat: container([part(flat) for part in parts])
    # TFF refuses most of these, and says why.
    return lambda flat: type_conversions.type_to_py_container(
        structure.Struct(
            [(n, part(flat)) for n, part in zip(names, parts, strict=True)]
        ),
        opened(type_spec),
    )

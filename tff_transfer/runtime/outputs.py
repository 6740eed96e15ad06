"""A computation's result, made of what its last functions gave."""

from collections.abc import Iterator, Sequence

import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.common_libs import structure

from tff_transfer.runtime import containers, layouts, results
from tff_transfer.runtime.layouts import ClientTensors
from tff_transfer.runtime.parameters import member
from tff_transfer.runtime.plan import Output, of_clients
from tff_transfer.runtime.stacked import StackedClients
from tff_transfer.runtime.tensors import own


class Outputs:
    """The parts of a result, and how they become one.

    Attributes:
      sizes: How many tensors each part is.
    """

    def __init__(self, parts: Sequence[Output], type_spec: tff.Type):
        """Prepares containers.

        Args:
          parts: A plan's `outputs`.
          type_spec: The type of the result.
        """
        types = [part.block.type_signature for part in parts]
        self._leaves = [layouts.leaf_types(member(t)) for t in types]
        self.sizes = [len(leaves) for leaves in self._leaves]
        # Not of the parts' own types, which have forgotten Python's containers.
        of_client = _types_at_clients(type_spec)
        self._of_client = [
            containers.maker(next(of_client).member) if part.at_clients else None
            for part in parts
        ]
        self._make = containers.maker(type_spec)

    def result(
        self,
        server: Sequence[tf.Tensor],
        clients: dict[int, list],
        count: int,
        stacked: bool,
    ):
        """Returns the result, in TFF's containers.

        Args:
          server: The tensors of all parts of the server's.
          clients: Of each part of the clients', by its number, the leaves
            (`results.join`).
          count: How many clients there are.
          stacked: Whether clients' values are wanted stacked, where they can be.
        """
        server, flat = iter(server), []
        for index, make in enumerate(self._of_client):
            if make is not None:
                flat.append(_of_clients(clients[index], make, count, stacked))
                continue
            for leaf in self._leaves[index]:
                value = next(server)
                sequence = isinstance(leaf, tff.SequenceType)
                flat.append(results.dataset(value, leaf) if sequence else own(value))
        return self._make(iter(flat))


def _types_at_clients(type_spec: tff.Type) -> Iterator[tff.FederatedType]:
    """Yields the types of what is placed at clients, in order."""
    if isinstance(type_spec, tff.FederatedType):
        if of_clients(type_spec):
            yield type_spec
    elif isinstance(type_spec, tff.StructType):
        for _, element in structure.iter_elements(type_spec):
            yield from _types_at_clients(element)


def _of_clients(columns: list, make: containers.Maker, count: int, stacked: bool):
    """Returns each client's value, or arrays of all if that is wanted and can be."""
    kinds = [isinstance(c, ClientTensors) and len(c.arrays) == 1 for c in columns]
    if stacked and kinds and all(kinds):
        return StackedClients(make(iter([column.arrays[0] for column in columns])))
    rows = [iter(results.unstack(column)) for column in columns]
    return [make(iter([next(row) for row in rows])) for _ in range(count)]

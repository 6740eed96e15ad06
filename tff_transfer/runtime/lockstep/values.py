"""What an operation is done to when many clients do it at a time."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class NotVectorizedError(Exception):
    """An operation is in the way of clients' going in lockstep; says which."""


class Value(NamedTuple):
    """A tensor of the graph of one client, for many clients.

    Attributes:
      tensor: Either [clients, ...], each client's, or what all have.
      batched: Whether it is each client's.
    """

    tensor: tf.Tensor
    batched: bool

    @property
    def rank(self) -> int:
        """The rank of one client's value.

        Raises:
          ValueError: It is not known.
        """
        if self.tensor.shape.rank is None:
            raise ValueError('the rank of a tensor is not known')
        return self.tensor.shape.rank - self.batched


@dataclasses.dataclass(frozen=True)
class Here:
    """Where operations are done for many clients.

    Attributes:
      clients: How many there are, int32 [1], at least 1.
      active: Which of them come here, bool [clients]; None if all do.
      own_kernels: Whether each may convolve by a kernel of its own.
      variables: What the clients' variables hold, [clients, ...], by the `ref` of
        their handle. An assignment changes it.
      datasets: What is known of datasets, iterators and optionals, by their `ref`s: of
        the former what goes over the elements (`Batches.over`), of the latter the
        element, if there is one (iterators.py).
    """

    clients: tf.Tensor
    active: tf.Tensor | None = None
    own_kernels: bool = True
    variables: dict = dataclasses.field(default_factory=dict)
    datasets: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Node:
    """An operation of one client and what many clients do it to.

    Attributes:
      op: The operation.
      inputs: Its inputs.
      here: Where it is done.
    """

    op: tf.Operation
    inputs: list[Value]
    here: Here

    @property
    def clients(self) -> tf.Tensor:
        """How many clients there are, int32 [1]."""
        return self.here.clients

    @property
    def active(self) -> tf.Tensor | None:
        """Which clients do it, bool [clients]; None if all do."""
        return self.here.active

    def ref(self, index: int = 0):
        """Returns the `ref` of an input that stands for something that is no tensor."""
        return self.inputs[index].tensor.ref()

    def check_channels_last(self) -> None:
        """Refuses other formats of images.

        Raises:
          ValueError: The format is NCHW.
        """
        if self.attr('data_format') != b'NHWC':
            raise ValueError('the format of the data is NCHW')

    def attr(self, name: str):
        """Returns an attribute."""
        return self.op.get_attr(name)

    def batched(self, index: int) -> tf.Tensor:
        """Returns an input as [clients, ...]."""
        return stack(self.inputs[index], self.clients)

    def shared(self, index: int) -> tf.Tensor:
        """Returns an input that all clients must have.

        Raises:
          ValueError: Each has its own.
        """
        value = self.inputs[index]
        if value.batched:
            name = self.op.op_def.input_arg[index].name
            raise ValueError(f'{name} is not the same for all clients')
        return value.tensor

    def places(self, index: int) -> tf.Tensor:
        """Returns an input of places in another, [clients, ...], all of which exist.

        They exist for clients that do the operation, and are 0 for the others.
        """
        places = self.batched(index)
        if self.active is None:
            return places
        active = lift(self.active, places.shape.rank - 1)
        return tf.where(active, places, tf.zeros([], places.dtype))

    def longer(self, shape: tf.Tensor) -> tf.Tensor:
        """Returns one client's shape with the clients' axis before it."""
        known = tf.get_static_value(shape)
        # Of a length that is not given, and another of 0, none can be found.
        if known is not None and (known > 0).all():
            return tf.constant([-1, *known], shape.dtype)
        return tf.concat([tf.cast(self.clients, shape.dtype), shape], 0)


def stack(value: Value, clients: tf.Tensor) -> tf.Tensor:
    """Returns a value as [clients, ...]; `clients` is their number, int32 [1]."""
    if value.batched:
        return value.tensor
    if value.tensor.dtype in (tf.resource, tf.variant):
        raise ValueError('a resource is not of each client')
    if value.tensor.shape.rank == 0:
        return tf.fill(clients, value.tensor)
    shape = tf.concat([clients, tf.shape(value.tensor)], 0)
    return tf.broadcast_to(value.tensor, shape)


def lift(tensor: tf.Tensor, axes: int) -> tf.Tensor:
    """Returns a tensor [clients, ...] with so many axes of length 1 put second."""
    if tensor.shape.rank == 1:
        return tf.reshape(tensor, [-1] + [1] * axes)
    for _ in range(axes):
        tensor = tf.expand_dims(tensor, 1)
    return tensor


def like(op: tf.Operation, inputs: list[tf.Tensor], **attrs) -> list[tf.Tensor]:
    """Makes an operation like another in the graph that is being traced.

    Args:
      op: The other operation.
      inputs: What it is done to.
      **attrs: Attributes that differ, `AttrValue`s.

    Returns:
      Its results.
    """
    kept = {k: v for k, v in op.node_def.attr.items() if not k.startswith('_')}
    graph = tf.compat.v1.get_default_graph()
    made = graph.create_op(
        op.type, inputs, [o.dtype for o in op.outputs], attrs={**kept, **attrs}
    )
    return list(made.outputs)


Rule = Callable[[Node], 'tf.Tensor | list[tf.Tensor] | list[Value]']
RULES: dict[str, Rule] = {}
# Where some input is a token (variables.py).
TOKEN_RULES: dict[str, Rule] = {}


def rule(*names: str, among: dict[str, Rule] = RULES) -> Callable[[Rule], Rule]:
    """Registers what an operation is where some input is each client's, or a token.

    The rule returns the results: tensors [clients, ...], or `Value`s.
    """

    def register(function: Rule) -> Rule:
        for name in names:
            among[name] = function
        return function

    return register

"""Sequences inside a traced function: a length and a way to get element number j."""

from collections.abc import Callable, Iterator

import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.common_libs import structure

from tff_transfer.runtime import layouts


def pack(flat: Iterator, type_spec: tff.Type):
    """Packs leaves into `Struct`s as a type (without sequences' elements) asks."""
    if isinstance(type_spec, tff.FederatedType):
        return pack(flat, type_spec.member)
    if isinstance(type_spec, tff.StructType):
        return structure.Struct(
            [(n, pack(flat, e)) for n, e in structure.iter_elements(type_spec)]
        )
    return next(flat)


def leaves(value) -> list:
    """Returns the leaves of nested `Struct`s, in order."""
    if isinstance(value, structure.Struct):
        return [leaf for element in value for leaf in leaves(element)]
    return [value]


def one_of(arrays: list[tf.Tensor], type_spec: tff.TensorType, index) -> tf.Tensor:
    """Returns value number `index` of what `layouts.concatenate` laid out."""
    kind = layouts.layout(type_spec)
    if kind == 'stacked':
        return arrays[0][index]
    # Slices of vectors by vectors: scalars would be made vectors of again, and the
    # operations on a batch are a good part of what a small step costs.
    index = tf.reshape(index, [1])
    first = tf.strided_slice(arrays[1], index, index + 1, [1])
    last = tf.strided_slice(arrays[1], index + 1, index + 2, [1])
    value = tf.strided_slice(arrays[0], first, last, [1])
    if kind == 'rows':
        return value
    value = tf.reshape(value, arrays[2][index[0]])
    return tf.ensure_shape(value, type_spec.shape)


class Sequence:
    """Elements that are computed, or read from arrays, one at a time.

    Attributes:
      element_type: The TFF type of an element.
      first: The index of the first element, a scalar int64 tensor.
      last: The index after the last element, a scalar int64 tensor.
      element: Maps an index, a scalar int64 tensor, to the element.
    """

    def __init__(
        self,
        element_type: tff.Type,
        first: tf.Tensor,
        last: tf.Tensor,
        element: Callable[[tf.Tensor], object],
    ):
        self.element_type = element_type
        self.first = first
        self.last = last
        self.element = element

    def map(self, fn: Callable, element_type: tff.Type) -> 'Sequence':
        """Returns the sequence of `fn` of each element."""
        return Sequence(
            element_type, self.first, self.last, lambda j: fn(self.element(j))
        )

    def reduce(self, zero, step: Callable, state_type: tff.Type):
        """Returns the state after `step(state, element)` for all elements."""

        def body(j, *state):
            new = step(pack(iter(state), state_type), self.element(j))
            return (j + 1, *leaves(new))

        initial = [tf.convert_to_tensor(leaf) for leaf in leaves(zero)]
        shapes = [tf.TensorShape([]), *(t.shape for t in layouts.specs(state_type))]
        _, *state = tf.while_loop(
            lambda j, *_: j < self.last,
            body,
            (self.first, *initial),
            shape_invariants=tuple(shapes),
            parallel_iterations=1,
        )
        return pack(iter(state), state_type)

    def dataset(self) -> tf.data.Dataset:
        """Returns a `tf.data.Dataset` of the elements, named ones as dicts."""
        return tf.data.Dataset.range(self.first, self.last).map(
            lambda j: as_nest(self.element(j), self.element_type)
        )

    def variant(self) -> tf.Tensor:
        """Returns the variant tensor of the dataset."""
        return tf.data.experimental.to_variant(self.dataset())


class DatasetSequence(Sequence):
    """A sequence that is the variant tensor of a `tf.data.Dataset`."""

    def __init__(self, element_type: tff.Type, variant: tf.Tensor):
        self.element_type = element_type
        self._variant = variant

    def dataset(self) -> tf.data.Dataset:
        """Returns the dataset."""
        spec = as_nest(
            pack(iter(layouts.specs(self.element_type)), self.element_type),
            self.element_type,
        )
        return tf.data.experimental.from_variant(self._variant, spec)

    def variant(self) -> tf.Tensor:
        """Returns the variant tensor."""
        return self._variant

    def map(self, fn: Callable, element_type: tff.Type) -> Sequence:
        """Returns the sequence of `fn` of each element."""
        mapped = self.dataset().map(
            lambda nest: as_nest(fn(from_nest(nest, self.element_type)), element_type)
        )
        return DatasetSequence(element_type, tf.data.experimental.to_variant(mapped))

    def reduce(self, zero, step: Callable, state_type: tff.Type):
        """Returns the state after `step(state, element)` for all elements."""

        def flat_step(state, nest):
            element = from_nest(nest, self.element_type)
            return tuple(leaves(step(pack(iter(state), state_type), element)))

        initial = tuple(tf.convert_to_tensor(leaf) for leaf in leaves(zero))
        state = self.dataset().reduce(initial, flat_step)
        return pack(iter(state), state_type)


class ArraySequence(Sequence):
    """Elements `first` to `last` of what `layouts.concatenate` laid out.

    Attributes:
      arrays: The arrays of all leaves of an element, flat.
    """

    def __init__(self, element_type: tff.Type, first, last, arrays: list[tf.Tensor]):
        super().__init__(
            element_type, first, last, lambda j: element_at(element_type, arrays, j)
        )
        self.arrays = arrays


def element_at(element_type: tff.Type, arrays: list[tf.Tensor], index):
    """Returns an element from the arrays of all leaves of an element, flat."""
    arrays = iter(arrays)
    parts = []
    for leaf in layouts.leaf_types(element_type):
        column = [next(arrays) for _ in layouts.concatenated_specs(leaf)]
        parts.append(one_of(column, leaf, index))
    return pack(iter(parts), element_type)


def from_arrays(element_type: tff.Type, flat: list[tf.Tensor], client) -> ArraySequence:
    """Returns one client's sequence from the arrays of `ClientSequences.part`."""
    starts, *arrays = flat
    return ArraySequence(element_type, starts[client], starts[client + 1], arrays)


def as_nest(value, type_spec: tff.Type):
    """Returns nested `Struct`s as dicts, where named, and tuples.

    TensorFlow orders a dict's entries by name, and so does TFF when it writes down
    which tensor of a dataset's element is which.
    """
    if isinstance(type_spec, tff.StructType):
        elements = structure.to_elements(type_spec)
        parts = [as_nest(v, e) for v, (_, e) in zip(value, elements, strict=True)]
        names = [n for n, _ in elements]
        return (
            dict(zip(names, parts, strict=True)) if names and names[0] else tuple(parts)
        )
    return value


def from_nest(nest, type_spec: tff.Type):
    """Returns what `as_nest` was given."""
    if isinstance(type_spec, tff.StructType):
        return structure.Struct(
            [
                (n, from_nest(nest[n if n else i], e))
                for i, (n, e) in enumerate(structure.iter_elements(type_spec))
            ]
        )
    return nest

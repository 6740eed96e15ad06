"""Python values as arrays, in the layout that a TFF type prescribes.

The values of many clients, and the elements of a sequence, are concatenated, never
padded. A tensor type says how:

- `stacked`, where its shape is known: one array [n, ...];
- `rows`, where only the first dimension is open, as in batches: the rows of all
  values, [rows, ...], and where each value starts, int64 [n + 1];
- `ragged`, else: the entries of all values, [entries], where each value starts,
  int64 [n + 1], and each value's shape, int64 [n, rank].
"""

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import attrs
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.common_libs import structure
from tensorflow_federated.python.core.impl.compiler import array

from tff_transfer.data.cohorts import Cohort


def leaf_types(type_spec: tff.Type | None) -> list[tff.Type]:
    """Returns the tensor, sequence and federated types of a type, in order."""
    if type_spec is None:
        return []
    if isinstance(type_spec, tff.StructType):
        return [
            leaf
            for _, element in structure.iter_elements(type_spec)
            for leaf in leaf_types(element)
        ]
    return [type_spec]


def leaf_values(value, type_spec: tff.Type, where: str) -> Iterator[tuple[object, str]]:
    """Yields a Python value's parts in the order of `leaf_types`.

    Args:
      value: A value of that type in any of the containers that TFF takes.
      type_spec: The type.
      where: What the value is called in errors.

    Yields:
      The part and what it is called.

    Raises:
      TypeError: The containers do not fit the type.
    """
    if not isinstance(type_spec, tff.StructType):
        yield value, where
        return
    elements = structure.to_elements(type_spec)
    names = [name for name, _ in elements]
    if isinstance(value, structure.Struct):
        found = structure.to_elements(value)
        parts = [part for _, part in found]
        if any(n is not None and n != m for (n, _), m in zip(found, names)):  # noqa: B905
            parts = None
    elif isinstance(value, Mapping):
        if all(n in value for n in names if n is not None) and names[:1] != [None]:
            parts = [value[n] for n in names] if len(value) == len(names) else None
        else:
            parts = list(value.values()) if not any(names) else None
    elif attrs.has(type(value)):
        parts = [getattr(value, a.name) for a in attrs.fields(type(value))]
    elif isinstance(value, list | tuple):
        parts = list(value)
    elif dataclasses.is_dataclass(value):
        parts = [getattr(value, f.name) for f in dataclasses.fields(value)]
    else:
        parts = None
    if parts is None or len(parts) != len(elements):
        raise TypeError(
            f'{where} should be of type {_short(type_spec)}, but is {_describe(value)}'
        )
    for i, (part, (name, element)) in enumerate(zip(parts, elements, strict=True)):
        yield from leaf_values(part, element, f'{where}.{name or i}')


def tensor_array(value, type_spec: tff.TensorType, where: str) -> np.ndarray:
    """Returns a tensor's value as an array of the type's dtype.

    Raises:
      TypeError: Shape or dtype do not fit, by TFF's rules.
    """
    if isinstance(value, tf.Tensor | tf.Variable):
        value = value.numpy()
    dtype = type_spec.dtype.type
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        natural = np.asarray(value)
        same_kind = natural.size == 0 or natural.dtype.kind == np.dtype(dtype).kind
        value = natural.astype(dtype) if same_kind and dtype is not np.str_ else natural
    if dtype is np.str_:
        result = np.asarray(value, object)
        fits = np.ndim(value) == 0 or array.is_compatible_shape(result, type_spec.shape)
    else:
        result = np.asarray(value)
        fits = array.is_compatible_shape(
            result, type_spec.shape
        ) and array.is_compatible_dtype(value, dtype)
        if fits and result.dtype != dtype:
            result = result.astype(dtype)
    if not fits:
        raise TypeError(
            f'{where} should be of type {_short(type_spec)}, but is {_describe(value)}'
        )
    return result


def layout(type_spec: tff.TensorType) -> str:
    """Returns how values of a type are concatenated: stacked, rows or ragged."""
    shape = type_spec.shape
    if shape is not None and None not in shape:
        return 'stacked'
    if shape is not None and len(shape) > 0 and None not in shape[1:]:
        return 'rows'
    return 'ragged'


def concatenate(
    values: Sequence[np.ndarray], type_spec: tff.TensorType
) -> tuple[np.ndarray, ...]:
    """Returns the arrays that hold many values of one tensor type."""
    dtype = object if type_spec.dtype.type is np.str_ else type_spec.dtype
    kind = layout(type_spec)
    if kind == 'stacked':
        empty = np.zeros((0, *type_spec.shape), dtype)
        return (np.stack(values).astype(dtype, copy=False) if len(values) else empty,)
    if kind == 'rows':
        empty = np.zeros((0, *type_spec.shape[1:]), dtype)
        starts = _starts([len(v) for v in values])
        return np.concatenate([empty, *values]).astype(dtype, copy=False), starts
    rank = max((np.ndim(v) for v in values), default=0)
    if type_spec.shape is not None:
        rank = len(type_spec.shape)
    flat = np.concatenate([np.zeros(0, dtype), *(np.ravel(v) for v in values)])
    shapes = np.array([np.shape(v) for v in values], np.int64).reshape(-1, rank)
    return flat, _starts([np.size(v) for v in values]), shapes


def _starts(counts) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def _part(arrays: tuple[np.ndarray, ...], first: int, last: int):
    """Returns values `first` to `last` of concatenated ones, without a copy."""
    if len(arrays) == 1:
        return (arrays[0][first:last],)
    values, starts, *shapes = arrays
    return (
        values[starts[first] : starts[last]],
        starts[first : last + 1] - starts[first],
        *(s[first:last] for s in shapes),
    )


@dataclasses.dataclass(frozen=True)
class ClientTensors:
    """One tensor of each client.

    Attributes:
      arrays: What `concatenate` returns.
      clients: How many there are.
    """

    arrays: tuple[np.ndarray, ...]
    clients: int

    def part(self, first: int, last: int) -> list[np.ndarray]:
        """Returns the arrays of some clients, views of these."""
        return list(_part(self.arrays, first, last))

    def select(self, client: int) -> 'ClientTensors':
        """Returns the value of one client."""
        return ClientTensors(tuple(self.part(client, client + 1)), 1)

    def head(self, _: int) -> 'ClientTensors':
        """Returns itself: a tensor has no steps."""
        return self


@dataclasses.dataclass(frozen=True)
class ClientSequences:
    """One sequence of each client.

    Attributes:
      leaves: For each tensor of an element, in the order of `leaf_types`, what
        `concatenate` returns for the elements of all clients, one client's after
        another's.
      starts: Where each client's elements start, int64 [clients + 1].
    """

    leaves: tuple[tuple[np.ndarray, ...], ...]
    starts: np.ndarray

    @property
    def clients(self) -> int:
        """How many clients there are."""
        return len(self.starts) - 1

    def part(self, first: int, last: int) -> list[np.ndarray]:
        """Returns the arrays of some clients, views of these, flat."""
        steps = int(self.starts[first]), int(self.starts[last])
        flat = [self.starts[first : last + 1] - self.starts[first]]
        for leaf in self.leaves:
            flat.extend(_part(leaf, *steps))
        return flat

    def select(self, client: int) -> 'ClientSequences':
        """Returns the sequence of one client."""
        steps = int(self.starts[client]), int(self.starts[client + 1])
        leaves = tuple(tuple(_part(leaf, *steps)) for leaf in self.leaves)
        return ClientSequences(leaves, np.array([0, steps[1] - steps[0]]))

    def head(self, steps: int) -> 'ClientSequences':
        """Returns the first steps of the sequence of an only client."""
        steps = min(steps, int(self.starts[-1]))
        leaves = tuple(tuple(_part(leaf, 0, steps)) for leaf in self.leaves)
        return ClientSequences(leaves, np.array([0, steps]))

    def nbytes(self) -> np.ndarray:
        """Returns about how many bytes each client's elements take, [clients]."""
        size = np.zeros(int(self.starts[-1]) + 1)
        for values, *rest in self.leaves:
            row = values.nbytes / max(len(values), 1)
            size[1:] += np.diff(rest[0]) * row if rest else row
        return np.diff(np.cumsum(size)[self.starts])


def client_values(value, member: tff.Type, where: str) -> list:
    """Returns `ClientTensors` or `ClientSequences` for each leaf of a client value.

    Args:
      value: A list or tuple with each client's value, or a `Cohort`.
      member: The type of one client's value.
      where: What the value is called in errors.

    Raises:
      TypeError: A value does not fit its type.
    """
    if isinstance(value, Cohort) and isinstance(member, tff.SequenceType):
        return [cohort_sequences(value, member.element, where)]
    if not isinstance(value, list | tuple | Cohort):
        raise TypeError(
            f'{where} should be a list with a value for each client, but is'
            f' {_describe(value)}'
        )
    columns = [[] for _ in leaf_types(member)]
    for client, of_client in enumerate(value):
        parts = leaf_values(of_client, member, f'{where} of client {client}')
        for column, part in zip(columns, parts, strict=True):
            column.append(part)
    leaves = []
    for column, leaf in zip(columns, leaf_types(member), strict=True):
        if isinstance(leaf, tff.SequenceType):
            leaves.append(_sequences(column, leaf.element))
        else:
            arrays = [tensor_array(part, leaf, name) for part, name in column]
            leaves.append(ClientTensors(concatenate(arrays, leaf), len(arrays)))
    return leaves


def server_values(value, type_spec: tff.Type, where: str) -> list[np.ndarray]:
    """Returns the arrays of a value that is no client's, flat.

    A sequence gives the arrays of `ClientSequences` with one client.
    """
    flat = []
    for (part, name), leaf in zip(
        leaf_values(value, type_spec, where), leaf_types(type_spec), strict=True
    ):
        if isinstance(leaf, tff.SequenceType):
            flat.extend(_sequences([(part, name)], leaf.element).part(0, 1))
        else:
            flat.append(tensor_array(part, leaf, name))
    return flat


def cohort_sequences(cohort: Cohort, element: tff.Type, where: str) -> ClientSequences:
    """Returns a cohort's batches as sequences, without a copy of its rows.

    Raises:
      TypeError: The cohort's examples do not fit the element type.
    """
    examples = cohort.examples
    if not isinstance(element, tff.StructType) and len(examples) == 1:
        (examples,) = examples.values()
    arrays = []
    types = leaf_types(element)
    for (column, name), leaf in zip(
        leaf_values(examples, element, where), types, strict=True
    ):
        rows = layout(leaf) == 'rows' and isinstance(column, np.ndarray)
        if not rows or not array.is_compatible_shape(column, leaf.shape):
            raise TypeError(
                f'{name} should be batches of type {_short(leaf)}, but is rows of'
                f' {_describe(column)}'
            )
        arrays.append(tensor_array(column, leaf, name))
    splits = np.asarray(cohort.row_splits, np.int64)
    steps = -(-np.diff(splits) // cohort.batch_size)
    starts = _starts(steps)
    of_client = np.arange(starts[-1]) - np.repeat(starts[:-1], steps)
    rows = np.append(
        np.repeat(splits[:-1], steps) + of_client * cohort.batch_size, splits[-1]
    )
    return ClientSequences(tuple((a, rows) for a in arrays), starts)


def _sequences(column: list[tuple[object, str]], element: tff.Type) -> ClientSequences:
    types = leaf_types(element)
    leaves = [[] for _ in types]
    counts = []
    for value, where in column:
        if isinstance(value, tf.data.Dataset):
            spec = tff.types.tensorflow_to_type(value.element_spec)
            if not element.is_assignable_from(spec):
                raise TypeError(
                    f'{where} should be a dataset of {_short(element)}, but is one of'
                    f' {_short(spec)}'
                )
            value = value.as_numpy_iterator()
        elif not isinstance(value, list):
            raise TypeError(
                f'{where} should be a tf.data.Dataset of {_short(element)}, but is'
                f' {_describe(value)}'
            )
        count = 0
        for step, of_step in enumerate(value):
            parts = leaf_values(of_step, element, f'{where}[{step}]')
            for leaf, type_spec, (part, name) in zip(leaves, types, parts, strict=True):
                leaf.append(tensor_array(part, type_spec, name))
            count += 1
        counts.append(count)
    encoded = tuple(concatenate(v, t) for v, t in zip(leaves, types, strict=True))
    return ClientSequences(encoded, _starts(counts))


def specs(type_spec: tff.Type) -> list[tf.TensorSpec]:
    """Returns the specs of the arrays of one value of a type, or of one sequence."""
    result = []
    for leaf in leaf_types(type_spec):
        if isinstance(leaf, tff.SequenceType):
            result.append(tf.TensorSpec([None], tf.int64))
            for element in leaf_types(leaf.element):
                result.extend(concatenated_specs(element))
        else:
            result.append(tf.TensorSpec(leaf.shape, tf_dtype(leaf)))
    return result


def client_specs(type_spec: tff.Type) -> list[tf.TensorSpec]:
    """Returns the specs of the arrays of the clients' values of a type."""
    result = []
    for leaf in leaf_types(type_spec):
        sequence = isinstance(leaf, tff.SequenceType)
        result.extend(specs(leaf) if sequence else concatenated_specs(leaf))
    return result


def concatenated_specs(type_spec: tff.TensorType) -> list[tf.TensorSpec]:
    """Returns the specs of what `concatenate` returns."""
    dtype = tf_dtype(type_spec)
    starts = tf.TensorSpec([None], tf.int64)
    kind = layout(type_spec)
    if kind == 'stacked':
        return [tf.TensorSpec([None, *type_spec.shape], dtype)]
    if kind == 'rows':
        return [tf.TensorSpec([None, *type_spec.shape[1:]], dtype), starts]
    rank = None if type_spec.shape is None else len(type_spec.shape)
    return [tf.TensorSpec([None], dtype), starts, tf.TensorSpec([None, rank], tf.int64)]


def tf_dtype(type_spec: tff.TensorType) -> tf.DType:
    """Returns TensorFlow's dtype of a tensor type."""
    if type_spec.dtype.type is np.str_:
        return tf.string
    return tf.dtypes.as_dtype(type_spec.dtype)


def _short(type_spec) -> str:
    text = type_spec.compact_representation()
    return text if len(text) < 200 else text[:200] + '...'


def _describe(value) -> str:
    if isinstance(value, np.ndarray | np.generic):
        return f'an array {value.dtype}{list(value.shape)}'
    if isinstance(value, collections.abc.Sized) and not isinstance(value, str | bytes):
        return f'a {type(value).__name__} of {len(value)}'
    text = repr(value).splitlines()[0] if repr(value) else ''
    return f'the {type(value).__name__} {text[:80]}'

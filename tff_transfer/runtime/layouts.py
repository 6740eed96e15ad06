"""How the values of a TFF type lie in arrays, and as which tensors they are traced.

The values of many clients, and the elements of a sequence, are concatenated, never
padded. A tensor type says how:

- `stacked`, where its shape is known: one array [n, ...];
- `rows`, where only the first dimension is open, as in batches: the rows of all
  values, [rows, ...], and where each value starts, int64 [n + 1];
- `ragged`, else: the entries of all values, [entries], where each value starts,
  int64 [n + 1], and each value's shape, int64 [n, rank].
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.common_libs import structure

from tff_transfer.data.rows import Rows


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
        starts = starts_of([len(v) for v in values])
        return np.concatenate([empty, *values]).astype(dtype, copy=False), starts
    rank = max((np.ndim(v) for v in values), default=0)
    if type_spec.shape is not None:
        rank = len(type_spec.shape)
    flat = np.concatenate([np.zeros(0, dtype), *(np.ravel(v) for v in values)])
    shapes = np.array([np.shape(v) for v in values], np.int64).reshape(-1, rank)
    return flat, starts_of([np.size(v) for v in values]), shapes


def starts_of(counts) -> np.ndarray:
    """Returns where values of these many entries start, and the end of the last."""
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, dtype=np.int64, out=starts[1:])
    return starts


def _slice(values, first: int, last: int):
    return values[first:last]


def _part(arrays: tuple, first: int, last: int, cut: Callable = _slice) -> tuple:
    """Returns values `first` to `last` of concatenated ones, without a copy."""
    if len(arrays) == 1:
        return (cut(arrays[0], first, last),)
    values, starts, *shapes = arrays
    return (
        cut(values, int(starts[first]), int(starts[last])),
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

    def some(self, first: int, last: int, cut: Callable = _slice) -> 'ClientTensors':
        """Returns the values of some clients (`ClientSequences.some`)."""
        return ClientTensors(_part(self.arrays, first, last, cut), last - first)

    def head(self, _: int) -> 'ClientTensors':
        """Returns itself: a tensor has no steps."""
        return self


@dataclasses.dataclass(frozen=True)
class ClientSequences:
    """One sequence of each client.

    Attributes:
      leaves: For each tensor of an element, in the order of `leaf_types`, what
        `concatenate` returns for the elements of all clients, one client's after
        another's; `Rows` or `PreparedRows` may take the place of the values.
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

    def some(self, first: int, last: int, cut: Callable = _slice) -> 'ClientSequences':
        """Returns the sequences of some clients.

        Args:
          first: The first of them.
          last: The one after the last.
          cut: What gives rows of the elements' values, from one number to another.
        """
        steps = int(self.starts[first]), int(self.starts[last])
        leaves = tuple(_part(leaf, *steps, cut) for leaf in self.leaves)
        return ClientSequences(leaves, self.starts[first : last + 1] - steps[0])

    def head(self, steps: int) -> 'ClientSequences':
        """Returns the first steps of the sequence of an only client."""
        steps = min(steps, int(self.starts[-1]))
        leaves = tuple(tuple(_part(leaf, 0, steps)) for leaf in self.leaves)
        return ClientSequences(leaves, np.array([0, steps]))

    def nbytes(self) -> np.ndarray:
        """Returns about how many bytes each client's elements take, [clients]."""
        size = np.zeros(self.clients)
        for values, *rest in self.leaves:
            bounds = rest[0][self.starts] if rest else self.starts
            row = values.nbytes / max(len(values), 1)
            size += (bounds[1:] - bounds[:-1]) * row
        return size


@dataclasses.dataclass(frozen=True)
class Elements:
    """The elements of one client's sequence.

    Attributes:
      count: How many there are.
      leaves: For each tensor of an element what `concatenate` returns, in which
        `Rows` may take the place of the values.
    """

    count: int
    leaves: tuple[tuple, ...]


def join(clients: Sequence[Elements], types: Sequence[tff.Type]) -> ClientSequences:
    """Returns the sequences of clients, their values not yet gathered.

    Args:
      clients: The elements of each.
      types: The types of an element's leaves.
    """
    leaves = tuple(
        _join([client.leaves[i] for client in clients], leaf)
        for i, leaf in enumerate(types)
    )
    return ClientSequences(leaves, starts_of([client.count for client in clients]))


def _join(parts: list[tuple], leaf: tff.TensorType) -> tuple:
    pieces = []
    for values, *_ in parts:
        if isinstance(values, Rows):
            pieces += values.pieces
        else:
            pieces.append((values, np.arange(len(values))))
    shape = {'stacked': slice(None), 'rows': slice(1, None)}.get(layout(leaf), slice(0))
    dtype = object if leaf.dtype.type is np.str_ else leaf.dtype
    result = [Rows(pieces, (leaf.shape or ())[shape], dtype)]
    if len(concatenated_specs(leaf)) > 1:
        sizes = [np.diff(starts) for _, starts, *_ in parts]
        result.append(starts_of(np.concatenate([np.zeros(0, np.int64), *sizes])))
    if len(concatenated_specs(leaf)) > 2:
        shapes = [shapes for _, _, shapes in parts]
        rank = 0 if leaf.shape is None else len(leaf.shape)
        result.append(
            np.concatenate(shapes) if shapes else np.zeros((0, rank), np.int64)
        )
    return tuple(result)


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

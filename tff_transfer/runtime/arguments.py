"""Python values as arrays, in the layout that a TFF type prescribes (layouts.py)."""

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
from tff_transfer.data.rows import PreparedRows
from tff_transfer.runtime import layouts
from tff_transfer.runtime.datasets import reading
from tff_transfer.runtime.layouts import ClientSequences, ClientTensors
from tff_transfer.runtime.stacked import StackedClients


def leaf_values(value, type_spec: tff.Type, where: str) -> Iterator[tuple[object, str]]:
    """Yields a Python value's parts in the order of `layouts.leaf_types`.

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


def client_values(value, member: tff.Type, where: str) -> list:
    """Returns `ClientTensors` or `ClientSequences` for each leaf of a client value.

    Args:
      value: A list or tuple with each client's value, a `Cohort`, or stacked values.
      member: The type of one client's value.
      where: What the value is called in errors.

    Raises:
      TypeError: A value does not fit its type.
    """
    if isinstance(value, Cohort) and isinstance(member, tff.SequenceType):
        return [cohort_sequences(value, member.element, where)]
    if isinstance(value, StackedClients):
        return _stacked(value, member, where)
    if not isinstance(value, list | tuple | Cohort):
        raise TypeError(
            f'{where} should be a list with a value for each client, but is'
            f' {_describe(value)}'
        )
    columns = [[] for _ in layouts.leaf_types(member)]
    for client, of_client in enumerate(value):
        parts = leaf_values(of_client, member, f'{where} of client {client}')
        for column, part in zip(columns, parts, strict=True):
            column.append(part)
    leaves = []
    for column, leaf in zip(columns, layouts.leaf_types(member), strict=True):
        if isinstance(leaf, tff.SequenceType):
            leaves.append(_sequences(column, leaf.element))
        else:
            arrays = [tensor_array(part, leaf, name) for part, name in column]
            leaves.append(ClientTensors(layouts.concatenate(arrays, leaf), len(arrays)))
    return leaves


def _stacked(
    value: StackedClients, member: tff.Type, where: str
) -> list[ClientTensors]:
    found = []
    for (part, name), leaf in zip(
        leaf_values(value.arrays, member, where),
        layouts.leaf_types(member),
        strict=True,
    ):
        if isinstance(leaf, tff.SequenceType) or layouts.layout(leaf) != 'stacked':
            raise TypeError(
                f'{name} cannot be stacked, since it is of type {_short(leaf)}: give a'
                ' list with a value for each client'
            )
        of_all = tff.TensorType(leaf.dtype, [len(value), *leaf.shape])
        array = tensor_array(part, of_all, name)
        found.append(ClientTensors((array,), len(value)))
    return found


def server_values(value, type_spec: tff.Type, where: str) -> list[np.ndarray]:
    """Returns the arrays of a value that is no client's, flat.

    A sequence gives the arrays of `ClientSequences` with one client.
    """
    flat = []
    for (part, name), leaf in zip(
        leaf_values(value, type_spec, where), layouts.leaf_types(type_spec), strict=True
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
    types = layouts.leaf_types(element)
    for (column, name), leaf in zip(
        leaf_values(examples, element, where), types, strict=True
    ):
        late = isinstance(column, PreparedRows)
        shaped = column[:0] if late else column
        rows = layouts.layout(leaf) == 'rows' and isinstance(shaped, np.ndarray)
        if not rows or not array.is_compatible_shape(shaped, leaf.shape):
            raise TypeError(
                f'{name} should be batches of type {_short(leaf)}, but is rows of'
                f' {_describe(column)}'
            )
        # As it is: NumPy would take from a memory map that it is one.
        fits = column.dtype == leaf.dtype
        arrays.append(column if fits else tensor_array(column[:], leaf, name))
    splits = np.asarray(cohort.row_splits, np.int64)
    sizes = cohort.batch_sizes
    steps = -((splits[:-1] - splits[1:]) // sizes)
    starts = layouts.starts_of(steps)
    rows = np.empty(starts[-1] + 1, np.int64)
    rows[-1] = splits[-1]
    # A client's steps are numbered from its first one on.
    rows[:-1] = np.arange(starts[-1]) * np.repeat(sizes, steps)
    rows[:-1] += np.repeat(splits[:-1] - starts[:-1] * sizes, steps)
    return ClientSequences(tuple((a, rows) for a in arrays), starts)


def _sequences(column: list[tuple[object, str]], element: tff.Type) -> ClientSequences:
    types = layouts.leaf_types(element)
    clients: dict[int, layouts.Elements] = {}
    datasets, names, positions = {}, [], []
    spec = of_spec = None
    for client, (value, where) in enumerate(column):
        if isinstance(value, tf.data.Dataset):
            # Comparing specs takes a hundredth of the time of asking TFF.
            if of_spec is None or value.element_spec != spec:
                spec = value.element_spec
                of_spec = _positions(spec, element, where)
            datasets[client] = value
            names.append(where)
            positions.append(of_spec)
        elif isinstance(value, list):
            clients[client] = _listed(value, element, where)
        else:
            raise TypeError(
                f'{where} should be a tf.data.Dataset of {_short(element)}, but is'
                f' {_describe(value)}'
            )
    found = reading.read(list(datasets.values()), names, positions, element)
    clients |= zip(datasets, found, strict=True)
    return layouts.join([clients[i] for i in range(len(column))], types)


def _positions(spec, element: tff.Type, where: str) -> list[int]:
    """Returns which component of a dataset's elements is which leaf of the type.

    Raises:
      TypeError: The elements do not fit the type.
    """
    found = tff.types.tensorflow_to_type(spec)
    if not element.is_assignable_from(found):
        raise TypeError(
            f'{where} should be a dataset of {_short(element)}, but is one of'
            f' {_short(found)}'
        )
    numbers = range(len(tf.nest.flatten(spec)))
    numbered = tf.nest.pack_sequence_as(spec, list(numbers))
    return [number for number, _ in leaf_values(numbered, element, where)]


def _listed(value: list, element: tff.Type, where: str) -> layouts.Elements:
    """Returns the elements of a list."""
    types = layouts.leaf_types(element)
    leaves = [[] for _ in types]
    for step, of_step in enumerate(value):
        parts = leaf_values(of_step, element, f'{where}[{step}]')
        for leaf, type_spec, (part, name) in zip(leaves, types, parts, strict=True):
            leaf.append(tensor_array(part, type_spec, name))
    encoded = [layouts.concatenate(v, t) for v, t in zip(leaves, types, strict=True)]
    return layouts.Elements(len(value), tuple(encoded))


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

"""How clients' values become one at the server, a client at a time.

Each aggregation has a state that starts at `zero`, takes in a client's value with
`accumulate`, is joined with that of another block of clients by `merge`, and gives
the result by `report`. States are nested `Struct`s of tensors.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.common_libs import structure
from tensorflow_federated.python.core.impl.compiler import building_blocks as bb

from tff_transfer.runtime import layouts
from tff_transfer.runtime.parameters import member as without_placements


def map_tensors(fn: Callable, *values):
    """Applies `fn` to the tensors at the same place of nested `Struct`s."""
    if isinstance(values[0], structure.Struct):
        names = [n for n, _ in structure.iter_elements(values[0])]
        parts = [map_tensors(fn, *parts) for parts in zip(*values, strict=True)]
        return structure.Struct(zip(names, parts, strict=True))
    return fn(*values)


@dataclasses.dataclass(frozen=True)
class Aggregation:
    """One aggregation.

    Attributes:
      zero: Returns the state of no clients.
      accumulate: Maps a state and a client's value to the new state.
      accumulate_all: Maps a state and the values of several clients, stacked, to the
        new state; None if they must come one after another.
      merge: Maps the states of two blocks of clients to that of both.
      report: Maps a state to the result.
    """

    zero: Callable[[], object]
    accumulate: Callable[[object, object], object]
    merge: Callable[[object, object], object]
    report: Callable[[object], object]
    accumulate_all: Callable[[object, object], object] | None = None


def _constant(value_of: Callable[[tff.TensorType], object]):
    def make(leaf):
        # A sum over values of an open shape starts from a scalar.
        shape = () if leaf.shape is None or None in leaf.shape else leaf.shape
        dtype = layouts.tf_dtype(leaf)
        return tf.fill(shape, tf.constant(value_of(leaf), dtype))

    return make


def _over_type(fn, type_spec):
    if isinstance(type_spec, tff.StructType):
        return structure.Struct(
            [(n, _over_type(fn, e)) for n, e in structure.iter_elements(type_spec)]
        )
    return fn(type_spec)


def _add(a, b):
    return map_tensors(_add_tensors, a, b)


def _add_tensors(a, b):
    return tf.logical_or(a, b) if a.dtype == tf.bool else tf.add(a, b)


def _add_all(state, values):
    return _add(state, map_tensors(_sum_tensor, values))


def _sum_tensor(x):
    return tf.reduce_any(x, 0) if x.dtype == tf.bool else tf.reduce_sum(x, 0)


def _same(value):
    return value


def summation(member: tff.Type) -> Aggregation:
    """Returns the sum of values of type `member`."""
    return Aggregation(
        lambda: _over_type(_constant(lambda leaf: 0), member),
        _add,
        _add,
        _same,
        _add_all,
    )


def mean(member: tff.Type, weight: tff.Type | None) -> Aggregation:
    """Returns the mean; with a weight, a client's value is the pair of both."""
    weight_type = tff.TensorType(np.float32) if weight is None else weight
    pair = tff.StructType([member, weight_type])

    def accumulate(state, value):
        x, w = (value, tf.constant(1.0)) if weight is None else (value[0], value[1])
        weighted = map_tensors(lambda t: t * tf.cast(w, t.dtype), x)
        return _add(state, structure.Struct.unnamed(weighted, w))

    def accumulate_all(state, value):
        if weight is None:
            first = structure.flatten(value)[0]
            x, w = value, tf.ones(tf.shape(first)[:1])
        else:
            x, w = value[0], value[1]
        weighted = map_tensors(
            lambda t: (
                t * tf.cast(tf.reshape(w, [-1] + [1] * (len(t.shape) - 1)), t.dtype)
            ),
            x,
        )
        return _add_all(state, structure.Struct.unnamed(weighted, w))

    def report(state):
        return map_tensors(lambda t: t / tf.cast(state[1], t.dtype), state[0])

    return Aggregation(
        lambda: _over_type(_constant(lambda leaf: 0), pair),
        accumulate,
        _add,
        report,
        accumulate_all,
    )


def extremum(member: tff.Type, op: Callable, start: str) -> Aggregation:
    """Returns the least or greatest value.

    Args:
      member: The type of the values.
      op: `tf.minimum` or `tf.maximum`.
      start: `max` or `min`: which end of the dtype's range no clients give.
    """

    def limit(leaf):
        integer = np.issubdtype(leaf.dtype, np.integer)
        info = np.iinfo(leaf.dtype) if integer else np.finfo(leaf.dtype)
        return getattr(info, start)

    def join(a, b):
        return map_tensors(op, a, b)

    def join_all(state, values):
        reduce = tf.reduce_min if op is tf.minimum else tf.reduce_max
        return join(state, map_tensors(lambda x: reduce(x, 0), values))

    zero = _constant(limit)
    return Aggregation(lambda: _over_type(zero, member), join, join, _same, join_all)


def general(zero, accumulate, merge, report) -> Aggregation:
    """Returns `tff.federated_aggregate`, of functions of `Struct`s."""

    def pair(fn):
        return lambda a, b: fn(structure.Struct.unnamed(a, b))

    return Aggregation(lambda: zero, pair(accumulate), pair(merge), report)


def secure_sum(member: tff.Type, bound, what: str = 'max_input') -> Aggregation:
    """Returns the sum of integers in [0, bound].

    Args:
      member: The type of the values.
      bound: The greatest value, an integer for all or one for each tensor.
      what: What the bound is called in errors.
    """
    plain = summation(member)

    def checked(value):
        def check(x, most):
            most = tf.cast(most, tf.int64)
            x64 = tf.cast(x, tf.int64)
            inside = tf.reduce_all(tf.logical_and(x64 >= 0, x64 <= most))
            message = f'a client value is not in [0, {what}]'
            with tf.control_dependencies([tf.Assert(inside, [message, x, most])]):
                return tf.identity(x)

        return map_tensors(check, value, _spread(bound, value))

    return dataclasses.replace(
        plain,
        accumulate=lambda state, value: _add(state, checked(value)),
        accumulate_all=lambda state, values: _add_all(state, checked(values)),
    )


def secure_sum_bitwidth(member: tff.Type, bits) -> Aggregation:
    """Returns the sum of integers in [0, 2 ** bits)."""

    def greatest(width):
        fits = tf.Assert(width <= 62, [width, 'bits are more than 62'])
        with tf.control_dependencies([fits]):
            return (
                tf.bitwise.left_shift(
                    tf.constant(1, tf.int64), tf.cast(width, tf.int64)
                )
                - 1
            )

    return secure_sum(member, map_tensors(greatest, bits), '2 ** bitwidth)')


def secure_modular_sum(member: tff.Type, modulus) -> Aggregation:
    """Returns the sum modulo `modulus`."""

    def report(state):
        return map_tensors(
            lambda x, m: tf.math.mod(x, tf.cast(m, x.dtype)),
            state,
            _spread(modulus, state),
        )

    return dataclasses.replace(summation(member), report=report)


def _spread(setting, value):
    """Returns a setting for each tensor of a value, from one for all or for each."""
    if isinstance(value, structure.Struct) and not isinstance(
        setting, structure.Struct
    ):
        return map_tensors(lambda _: setting, value)
    return setting


def state_type(call: bb.Call) -> tff.Type:
    """Returns the type of an aggregation's state."""
    argument = call.argument.type_signature
    uri = call.function.uri
    if uri == 'federated_aggregate':
        # The zero's own shape may be narrower than what is accumulated.
        return argument[2].result
    if uri == 'federated_mean':
        return tff.StructType([argument.member, np.float32])
    if uri == 'federated_weighted_mean':
        return tff.StructType([argument[0].member, argument[1].member])
    if isinstance(argument, tff.FederatedType):
        return argument.member
    return argument[0].member


def value_type(call: bb.Call) -> tff.Type:
    """Returns the type of a client's value for an aggregation."""
    argument = call.argument.type_signature
    pair = call.function.uri == 'federated_weighted_mean'
    if pair or isinstance(argument, tff.FederatedType):
        return without_placements(argument)
    return argument[0].member


def of_call(call: bb.Call, evaluate: Callable[[bb.ComputationBuildingBlock], object]):
    """Returns a call's aggregation and a function to a client's value for it."""
    argument, uri = call.argument, call.function.uri

    def field(index):
        block = bb.Selection(argument, index=index)
        if isinstance(argument, bb.Struct):
            block = argument[index]
        return evaluate(block)

    def whole():
        return evaluate(argument)

    def first():
        return field(0)

    kind = argument.type_signature
    if uri == 'federated_sum':
        return summation(kind.member), whole
    if uri == 'federated_mean':
        return mean(kind.member, None), whole
    if uri == 'federated_weighted_mean':
        return mean(kind[0].member, kind[1].member), whole
    if uri == 'federated_min':
        return extremum(kind.member, tf.minimum, 'max'), whole
    if uri == 'federated_max':
        return extremum(kind.member, tf.maximum, 'min'), whole
    if uri == 'federated_aggregate':
        return general(*map(field, range(1, 5))), first
    make = {
        'federated_secure_sum': secure_sum,
        'federated_secure_sum_bitwidth': secure_sum_bitwidth,
        'federated_secure_modular_sum': secure_modular_sum,
    }[uri]
    return make(kind[0].member, field(1)), first

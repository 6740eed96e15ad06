"""Interprets TFF's building blocks on one place's values while a function is traced.

Values are nested `Struct`s of tensors and `Sequence`s, or Python functions of them.
At a client, a value that is placed at clients is the value of that one client, so
that most intrinsics only hand their argument on.
"""

from collections import ChainMap
from collections.abc import Callable, MutableMapping

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.common_libs import structure
from tensorflow_federated.python.core.impl.compiler import building_blocks as bb

from tff_transfer.errors import UserError
from tff_transfer.runtime import layouts
from tff_transfer.runtime.aggregations import map_tensors
from tff_transfer.runtime.graphs import Graph
from tff_transfer.runtime.keys import STEP, Keys, fold
from tff_transfer.runtime.sequences import DatasetSequence, Sequence
from tff_transfer.runtime.xla import XlaComputation

Struct = structure.Struct


class Lazy(MutableMapping):
    """The values of names: known ones, and calls, evaluated when asked for, once."""

    def __init__(self, known: dict, compute: Callable[[str], object]):
        self._values = dict(known)
        self._compute = compute

    def __getitem__(self, name):
        if name not in self._values:
            self._values[name] = self._compute(name)
        return self._values[name]

    def __setitem__(self, name, value):
        self._values[name] = value

    def __delitem__(self, name):
        del self._values[name]

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)


class Interpreter:
    """Interprets building blocks; reads each compiled computation once.

    Attributes:
      name: What the computation is called in errors.
      debug: Whether the states of loops are checked to be finite.
      compute_dtype: What products of float32 are computed in, if not that.
      keys: What draws hang on.
    """

    def __init__(self, name: str, debug: bool, compute_dtype: str | None, keys: Keys):
        self.name = name
        self.debug = debug
        self.compute_dtype = compute_dtype
        self.keys = keys
        self._graphs: dict[
            int, tuple[bb.CompiledComputation, Graph | XlaComputation]
        ] = {}

    def graph(self, block: bb.CompiledComputation) -> Graph | XlaComputation:
        """Returns a TensorFlow or XLA computation, ready to be called."""
        if id(block) not in self._graphs:
            kind = block.proto.WhichOneof('computation')
            # A function's body is looked up in the eager context.
            with tf.init_scope():
                if kind == 'tensorflow':
                    graph = Graph(
                        block.proto,
                        block.type_signature,
                        self.debug,
                        self.compute_dtype,
                        self.keys,
                    )
                elif kind == 'xla':
                    graph = XlaComputation(block.proto, block.type_signature, self.name)
                else:
                    raise self.unsupported(f'a {kind} computation')
            self._graphs[id(block)] = block, graph
        return self._graphs[id(block)][1]

    def unsupported(self, what: str) -> UserError:
        """Returns the error for what the compiled runtime cannot run."""
        return UserError(
            f'{self.name}: the compiled runtime cannot run {what}; use'
            f' tff_transfer.runtime.use_stock() for this computation'
        )

    def evaluate(self, block: bb.ComputationBuildingBlock, scope: ChainMap):
        """Returns the value of a block.

        Args:
          block: A block in call-dominant form.
          scope: The values of the names that are free in it.
        """
        if isinstance(block, bb.Reference):
            return scope[block.name]
        if isinstance(block, bb.Selection):
            return self.evaluate(block.source, scope)[block.as_index()]
        if isinstance(block, bb.Struct):
            return Struct(
                [
                    (n, self.evaluate(e, scope))
                    for n, e in structure.iter_elements(block)
                ]
            )
        if isinstance(block, bb.Lambda):
            return self._function(block, scope)
        if isinstance(block, bb.Block):
            inner = scope.new_child()
            for name, value in block.locals:
                inner[name] = self.evaluate(value, inner)
            return self.evaluate(block.result, inner)
        if isinstance(block, bb.CompiledComputation):
            return self.graph(block)
        if isinstance(block, bb.Literal):
            return tf.constant(block.value, layouts.tf_dtype(block.type_signature))
        if isinstance(block, bb.Call):
            argument = None
            if block.argument is not None:
                argument = self.evaluate(block.argument, scope)
            if isinstance(block.function, bb.Intrinsic):
                return self.intrinsic(block, argument)
            function = self.evaluate(block.function, scope)
            return function(argument)
        raise self.unsupported(f'a {type(block).__name__} block')

    def _function(self, block: bb.Lambda, scope: ChainMap) -> Callable:
        def call(argument=None):
            inner = scope.new_child()
            if block.parameter_name is not None:
                inner[block.parameter_name] = argument
            return self.evaluate(block.result, inner)

        return call

    def intrinsic(self, call: bb.Call, argument):
        """Returns what an intrinsic that is no aggregation makes of its argument."""
        uri = call.function.uri
        local = _LOCAL.get(uri)
        if local is None:
            raise self.unsupported(f'the intrinsic {uri}')
        return local(argument, call.type_signature, self.keys)


def _apply(argument, *_):
    return argument[0](argument[1])


def _same(argument, *_):
    return argument


def _evaluate(function, *_):
    return function()


def _select(argument, type_signature, keys):
    chosen, max_key, server_value, select = argument
    last = tf.cast(max_key, chosen.dtype)
    inside = tf.reduce_all(tf.logical_and(chosen >= 0, chosen < last))
    check = tf.Assert(inside, ['a key is not in [0, max_key)', chosen, last])
    with tf.control_dependencies([check]):
        chosen = tf.identity(chosen)
    return Sequence(
        type_signature.member.element,
        tf.constant(0, tf.int64),
        tf.size(chosen, tf.int64),
        _at_element(lambda j: select(Struct.unnamed(server_value, chosen[j])), keys),
    )


def _sequence_map(argument, type_signature, keys):
    fn, sequence = argument
    if isinstance(sequence, DatasetSequence):
        with keys.at(None):
            return sequence.map(fn, type_signature.element)
    return Sequence(
        type_signature.element,
        sequence.first,
        sequence.last,
        _at_element(lambda j: fn(sequence.element(j)), keys),
    )


def _at_element(element: Callable, keys: Keys) -> Callable:
    """Returns a function of an element's index whose draws hang on that too."""
    if not keys.known:
        return element
    key = keys.here()

    def call(j):
        with keys.at(lambda: fold(key, STEP, j)):
            return element(j)

    return call


def _sequence_reduce(argument, type_signature, keys):
    sequence, zero, op = argument
    if not keys.known:
        return sequence.reduce(
            zero, lambda s, e: op(Struct.unnamed(s, e)), type_signature
        )

    def step(state, element):
        value, key = state
        with keys.at(lambda: key):
            value = op(Struct.unnamed(value, element))
        return Struct.unnamed(value, fold(key, STEP))

    value, _ = sequence.reduce(
        Struct.unnamed(zero, keys.here()),
        step,
        tff.StructType([type_signature, tff.TensorType(np.uint64, [1])]),
    )
    return value


def _sequence_sum(sequence, type_signature, _):
    zeros = map_tensors(
        lambda spec: tf.zeros(spec.shape, spec.dtype), _specs(type_signature)
    )
    return sequence.reduce(
        zeros, lambda s, e: map_tensors(tf.add, s, e), type_signature
    )


def _specs(type_spec):
    if isinstance(type_spec, tff.StructType):
        return Struct([(n, _specs(e)) for n, e in structure.iter_elements(type_spec)])
    return layouts.specs(type_spec)[0]


_LOCAL = {
    'federated_apply': _apply,
    'federated_map': _apply,
    'federated_map_all_equal': _apply,
    'federated_broadcast': _same,
    'federated_value_at_clients': _same,
    'federated_value_at_server': _same,
    'federated_zip_at_clients': _same,
    'federated_zip_at_server': _same,
    'federated_eval_at_clients': _evaluate,
    'federated_eval_at_server': _evaluate,
    'federated_select': _select,
    'federated_secure_select': _select,
    'sequence_map': _sequence_map,
    'sequence_reduce': _sequence_reduce,
    'sequence_sum': _sequence_sum,
}

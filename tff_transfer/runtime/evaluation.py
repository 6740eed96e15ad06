"""Evaluates TFF's building blocks on one place's values while a function is traced.

Values are nested `Struct`s of tensors and `Sequence`s, or Python functions of them.
At a client, a value that is placed at clients is the value of that one client, so
that most intrinsics only hand their argument on.
"""

from collections import ChainMap
from collections.abc import Callable, MutableMapping

import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.python.common_libs import structure
from tensorflow_federated.python.core.impl.compiler import building_blocks as bb

from tff_transfer.errors import UserError
from tff_transfer.runtime import layouts
from tff_transfer.runtime.aggregations import map_tensors
from tff_transfer.runtime.graphs import Graph
from tff_transfer.runtime.sequences import Sequence
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


class Evaluator:
    """Evaluates building blocks; reads each compiled computation once.

    Attributes:
      name: What the computation is called in errors.
      debug: Whether the states of loops are checked to be finite.
      compute_dtype: What products of float32 are computed in, if not that.
    """

    def __init__(self, name: str, debug: bool, compute_dtype: str | None):
        self.name = name
        self.debug = debug
        self.compute_dtype = compute_dtype
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
        return local(argument, call.type_signature)


def _apply(argument, _):
    return argument[0](argument[1])


def _same(argument, _):
    return argument


def _evaluate(function, _):
    return function()


def _select(argument, type_signature):
    keys, max_key, server_value, select = argument
    last = tf.cast(max_key, keys.dtype)
    inside = tf.reduce_all(tf.logical_and(keys >= 0, keys < last))
    check = tf.Assert(inside, ['a key is not in [0, max_key)', keys, last])
    with tf.control_dependencies([check]):
        keys = tf.identity(keys)
    return Sequence(
        type_signature.member.element,
        tf.constant(0, tf.int64),
        tf.size(keys, tf.int64),
        lambda j: select(Struct.unnamed(server_value, keys[j])),
    )


def _sequence_map(argument, type_signature):
    fn, sequence = argument
    return sequence.map(fn, type_signature.element)


def _sequence_reduce(argument, type_signature):
    sequence, zero, op = argument
    return sequence.reduce(zero, lambda s, e: op(Struct.unnamed(s, e)), type_signature)


def _sequence_sum(sequence, type_signature):
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

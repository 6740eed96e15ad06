"""TFF's XLA computations, which `tff.jax.computation` makes, as TensorFlow functions.

TFF's own worker has no executor for them. TensorFlow's `XlaCallModule` runs StableHLO
inside a function, on the device of the caller, and compiles it once; it wants the
module's results side by side, where XLA's computations return a tuple. Linear algebra
and Fourier transforms on the processor are calls of functions that only jaxlib has:
JAX itself runs these.
"""

import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from jax.interpreters import mlir
from jax.lib import xla_bridge
from jaxlib import xla_client
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import func, stablehlo
from tensorflow.compiler.tf2xla.python import xla
from tensorflow_federated.python.core.environments.xla_backend import xla_serialization

from tff_transfer.errors import UserError
from tff_transfer.runtime import layouts
from tff_transfer.runtime.sequences import leaves, pack

# The first version of XlaCallModule that takes any StableHLO of this module's age.
_VERSION = 5
_MLIR = xla_client._xla.mlir
# What is called by its name, in jaxlib or, by way of an address, in Python.
_FOREIGN = re.compile(r'stablehlo\.custom_call @(\w+)')


class XlaComputation:
    """An XLA computation that can be called in a function being traced."""

    def __init__(self, proto, type_signature: tff.FunctionType, name: str):
        """Reads a computation.

        Args:
          proto: TFF's `Computation` with an `xla` field.
          type_signature: Its type: tensors of known shapes.
          name: What the whole computation is called in errors.

        Raises:
          UserError: It calls back into Python.
        """
        self._type = type_signature
        self._parameters, self._results = [], _bindings(proto.xla.result)
        if proto.xla.HasField('parameter'):
            self._parameters = _bindings(proto.xla.parameter)
        computation = xla_serialization.unpack_xla_computation(proto.xla.hlo_module)
        text = _MLIR.xla_computation_to_mlir_module(computation)
        foreign = _FOREIGN.findall(text)
        if any('callback' in target for target in foreign):
            raise UserError(
                f'{name}: a computation of tff.jax cannot call back into Python'
                f' ({foreign[0]}): leave out jax.debug.print and jax.pure_callback'
            )
        self._run = _by_jax(text) if foreign else _by_tensorflow(text)

    def __call__(self, argument=None):
        """Calls the computation.

        Args:
          argument: Nested `Struct`s of tensors.

        Returns:
          The result, likewise.
        """
        values = leaves(argument) if argument is not None else []
        specs = [
            layouts.specs(leaf)[0] for leaf in layouts.leaf_types(self._type.result)
        ]
        placed = dict(zip(self._parameters, values, strict=True))
        results = dict(zip(self._results, specs, strict=True))
        called = self._run(
            [placed[i] for i in sorted(placed)], [results[i] for i in sorted(results)]
        )
        return pack((called[i] for i in self._results), self._type.result)


def _by_tensorflow(text: str) -> Callable:
    """Returns a function of tensors and the results' specs, to be traced."""
    with mlir.make_ir_context(), ir.Location.unknown():
        module = ir.Module.parse(text)
        _return_side_by_side(ir.SymbolTable(module.operation)['main'])
        portable = _MLIR.serialize_portable_artifact(
            str(module), stablehlo.get_minimum_version()
        )

    def run(tensors, specs):
        return xla.call_module(
            tensors,
            version=_VERSION,
            module=portable,
            Sout=[spec.shape for spec in specs],
            Tout=[spec.dtype for spec in specs],
            # The module is portable: it may run on another device than it names.
            platforms=['CPU'],
            disabled_checks=[xla.call_module_disable_check_platform()],
        )

    return run


def _by_jax(text: str) -> Callable:
    """Returns a function of tensors and the results' specs, to be traced."""
    backend = xla_bridge.get_backend('cpu')
    executable = backend.compile(text)

    def execute(*arrays):
        buffers = [backend.buffer_from_pyval(np.asarray(a)) for a in arrays]
        return [np.asarray(result) for result in executable.execute(buffers)]

    def run(tensors, specs):
        results = tf.numpy_function(execute, tensors, [spec.dtype for spec in specs])
        return [
            tf.ensure_shape(r, s.shape) for r, s in zip(results, specs, strict=True)
        ]

    return run


def _return_side_by_side(main) -> None:
    """Has a function return the parts of the tuple that it returns, in place."""
    block = main.regions[0].blocks[0]
    old = block.operations[len(block.operations) - 1]
    (whole,) = old.operands
    index = ir.IntegerType.get_signless(32)
    with ir.InsertionPoint(old):
        parts = [
            stablehlo.GetTupleElementOp(whole, ir.IntegerAttr.get(index, i)).result
            for i in range(ir.TupleType(whole.type).num_types)
        ]
        func.ReturnOp(parts)
    old.operation.erase()
    takes = [argument.type for argument in block.arguments]
    gives = [part.type for part in parts]
    main.attributes['function_type'] = ir.TypeAttr.get(
        ir.FunctionType.get(takes, gives)
    )


def _bindings(binding) -> list[int]:
    kind = binding.WhichOneof('binding')
    if kind == 'tensor':
        return [binding.tensor.index]
    return [index for e in binding.struct.element for index in _bindings(e)]

"""Calls of concrete functions, without the binding of arguments by their names."""

from collections.abc import Sequence

import tensorflow as tf
from tensorflow.python.eager import context


def call(
    function: tf.types.experimental.ConcreteFunction, tensors: Sequence[tf.Tensor]
) -> list[tf.Tensor]:
    """Returns the results of a function of a flat list of tensors.

    To call the function itself has TensorFlow check and convert each argument by the
    signature, which takes as long as all else that a call costs.

    Args:
      function: A function whose results are a flat list of tensors.
      tensors: Eager tensors, of the dtypes that it takes.
    """
    captured = function.captured_inputs
    results = context.context().call_function(
        function.name, [*tensors, *captured], len(function.outputs)
    )
    return results or []

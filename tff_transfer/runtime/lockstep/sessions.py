"""Functions whose operations run in the thread that calls them, one after another.

TensorFlow hands a function's operations to threads of its own, and spreads each over
several. To wake them and to wait for them takes as long as small operations do. A
session does neither: it runs in the caller's thread, and its device has a single thread
for operations, if devices may have threads of their own
(`TF_OVERRIDE_GLOBAL_THREADPOOL`, which tff_transfer/__init__.py sets).
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.eager import context as eager_context
from tensorflow.python.ops import list_ops

from tff_transfer.graphs.graph_functions import function_names

_CONFIG = tf.compat.v1.ConfigProto(
    inter_op_parallelism_threads=-1,
    intra_op_parallelism_threads=1,
    allow_soft_placement=True,
    device_count={'GPU': 0},
)
_NO_ARRAYS = (tf.variant, tf.resource)


def takes(function, elements: Sequence[tf.TensorSpec]) -> bool:
    """Returns whether a function can run so.

    Args:
      function: A `ConcreteFunction` whose first results are lists.
      elements: The specs of the lists' elements.
    """
    rest = [*function.inputs, *function.outputs[len(elements) :]]
    return all(spec.shape.is_fully_defined() for spec in elements) and not any(
        tensor.dtype in _NO_ARRAYS for tensor in rest
    )


class InCallersThread:
    """A function of arrays; threads may call it at a time."""

    def __init__(self, function, elements: Sequence[tf.TensorSpec]):
        """Makes a session of a function that `takes` accepts.

        Args:
          function: A `ConcreteFunction` whose first results are lists.
          elements: The specs of the lists' elements.
        """
        count = len(elements)
        with tf.Graph().as_default() as graph:
            tf.import_graph_def(_graph_def(function.graph), name='')
            results = [graph.get_tensor_by_name(t.name) for t in function.outputs]
            results[:count] = [
                list_ops.tensor_list_stack(of, spec.dtype, element_shape=spec.shape)
                for of, spec in zip(results, elements, strict=False)
            ]
        options = config_pb2.CallableOptions(
            feed=[t.name for t in function.inputs], fetch=[t.name for t in results]
        )
        self._session = tf.compat.v1.Session(graph=graph, config=_CONFIG)
        self._call = self._session._make_callable_from_options(options)

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns the function's results.

        Args:
          arrays: Its arguments, which may be shared with TensorFlow meanwhile.

        Returns:
          The results, with the elements of each list side by side, [elements, ...].

        Raises:
          tf.errors.OpError: An operation failed.
        """
        return self._call(*arrays)


def _graph_def(graph) -> tf.compat.v1.GraphDef:
    """Returns a `FuncGraph` with all functions that it uses."""
    made = graph.as_graph_def()
    names = {function.signature.name for function in made.library.function}
    todo = [*made.node, *(n for f in made.library.function for n in f.node_def)]
    while todo:
        for name in function_names(todo.pop()):
            if name not in names:
                names.add(name)
                function = eager_context.context().get_function_def(name)
                made.library.function.append(function)
                todo.extend(function.node_def)
    return made

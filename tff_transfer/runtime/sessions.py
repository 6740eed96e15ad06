"""Functions whose operations run in the thread that calls them, one after another.

TensorFlow hands a function's operations to threads of its own, and spreads each over
several. To wake them and to wait for them takes as long as small operations do, and
where other clients keep all processors busy it gains nothing. A session does neither:
it runs in the caller's thread, and its device has a single thread for operations, if
devices may have threads of their own (`TF_OVERRIDE_GLOBAL_THREADPOOL`, which
tff_transfer/__init__.py sets).
"""

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.eager import context as eager_context

from tff_transfer.graphs.graph_functions import function_names
from tff_transfer.runtime import block_states, denormals
from tff_transfer.runtime.blocks import BLOCKS, Settings
from tff_transfer.runtime.tensors import to_array

_CONFIG = tf.compat.v1.ConfigProto(
    inter_op_parallelism_threads=-1,
    intra_op_parallelism_threads=1,
    allow_soft_placement=True,
    device_count={'GPU': 0},
)
_NO_ARRAYS = (tf.variant, tf.resource)
# The fewest clients for each processor with which it pays: of fewer, some processors
# would have nothing to do towards the end, where an operation could have several.
_OF_A_PROCESSOR = 4
# The most bytes with which it always pays: an operation on so little is done before
# other threads are awake.
SMALL = 2**17
_REPEATS = ('While', 'StatelessWhile', 'ReduceDataset')


def small(specs: Sequence[tf.TensorSpec]) -> bool:
    """Returns whether tensors take `SMALL` bytes at most, whatever their values."""
    if not block_states.can_be_arrays(specs):
        return False
    return sum(s.dtype.size * s.shape.num_elements() for s in specs) <= SMALL


def pay(count: int, together: int, little: bool, settings: Settings) -> bool:
    """Returns whether clients are to run so.

    It hangs on sizes and on `operation_threads`, which bits of convolutions hang on
    anyway, and not on how many shares of clients run at a time.

    Args:
      count: How many clients there are.
      together: How many of them go in lockstep, 0 if each goes alone.
      little: Whether they are given little in all (`SMALL`).
      settings: How programs run.
    """
    if settings.debug:
        return False
    if together or little:
        return True
    processors = operation_threads()
    return processors <= BLOCKS and count >= _OF_A_PROCESSOR * processors


def operation_threads() -> int:
    """Returns how many threads TensorFlow gives one operation in this process."""
    given = tf.config.threading.get_intra_op_parallelism_threads()
    given = given or int(os.environ.get('TF_NUM_INTRAOP_THREADS') or 0)
    return given or len(os.sched_getaffinity(0))


def takes(function, elements: Sequence[tf.TensorSpec]) -> bool:
    """Returns whether a function can run so.

    Args:
      function: A `ConcreteFunction` whose first results are lists.
      elements: The specs of the lists' elements.
    """
    rest = [*function.inputs, *function.outputs[len(elements) :]]
    return (
        bool(function.outputs)
        and block_states.can_be_arrays(elements)
        and not any(tensor.dtype in _NO_ARRAYS for tensor in rest)
    )


def brief(function) -> bool:
    """Returns whether a function repeats nothing and has no large constants."""
    made = _graph_def(function.graph)
    nodes = [*made.node, *(n for f in made.library.function for n in f.node_def)]
    constants = sum(node.ByteSize() for node in nodes if node.op == 'Const')
    return constants <= SMALL and not any(node.op in _REPEATS for node in nodes)


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
            results[:count] = block_states.side_by_side(results[:count], elements)
        options = config_pb2.CallableOptions(
            feed=[t.name for t in function.inputs], fetch=[t.name for t in results]
        )
        self._session = tf.compat.v1.Session(graph=graph, config=_CONFIG)
        self._call = self._session._make_callable_from_options(options)

    def __call__(self, values: Sequence[np.ndarray | tf.Tensor]) -> list[np.ndarray]:
        """Returns the function's results.

        Args:
          values: Its arguments.

        Returns:
          The results, with the elements of each list side by side, [elements, ...].

        Raises:
          tf.errors.OpError: An operation failed.
        """
        arrays = [to_array(value) for value in values]
        with denormals.flushed():
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

"""The models of single clients, evaluated for all of them in one computation."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer.algorithms.computations import Kept
from tff_transfer.algorithms.method import Client, Context, Method
from tff_transfer.algorithms.wiring import State
from tff_transfer.data.federated import FederatedData
from tff_transfer.networks import batch_norm
from tff_transfer.runtime.tensors import to_tensor
from tff_transfer.training.evaluation import joined

# Examples that are evaluated in one call, about, and the most clients.
_ROWS, _CLIENTS = 4096, 128


def weights_of_client(method: Method, context: Context, state: State, kept: Kept):
    """Returns all weights of a client's model, in the order of `initial_weights`.

    Args:
      method: The method.
      context: What it was made for.
      state: What the server has.
      kept: What the client keeps.
    """
    shared, client = method.evaluated(state.server), _client(context, state, kept)
    if method.personal is not None:
        shared = method.personal(method.broadcast(state.server), client)
    return [*context.join(shared, kept.personal), *client.statistics]


def outputs_of_client(
    method: Method, context: Context, state: State, kept: Kept, inputs, labels=None
):
    """Returns what a client's model predicts of inputs, [batch, ...].

    Labels, int32 [batch], are for models that are conditioned on them.

    The first arguments are those of `weights_of_client`.
    """
    if method.outputs is None:
        weights = weights_of_client(method, context, state, kept)
        return context.model.logits(weights, inputs, labels)
    client = _client(context, state, kept)
    return method.outputs(method.broadcast(state.server), client, inputs)


def _client(context: Context, state: State, kept: Kept) -> Client:
    statistics = kept.statistics if context.local_statistics else state.statistics
    return Client(None, kept.method, kept.personal, statistics, state.round)


class PersonalEvaluator:
    """Evaluates each client's examples with the client's own model.

    Args:
      method: The method.
      context: What it was made for.
      transform: Makes the model's inputs of rows of `data.x`.
    """

    def __init__(
        self,
        method: Method,
        context: Context,
        transform: Callable[[np.ndarray], np.ndarray],
    ):
        self._method, self._context = method, context
        self._transform = transform
        self._run = tf.function(self._clients, reduce_retracing=True, autograph=False)

    def _clients(self, state, kept, inputs, labels, splits):
        model = self._context.model

        def body(client, found):
            own = tf.nest.map_structure(lambda array: array[client], kept)
            rows = slice(splits[client], splits[client + 1])
            outputs = outputs_of_client(
                self._method, self._context, state, own, inputs[rows], labels[rows]
            )
            return client + 1, found.write(client, outputs)

        count, like = tf.shape(splits)[0] - 1, model.output_spec
        _, outputs = tf.while_loop(
            lambda client, _: client < count,
            body,
            (
                tf.constant(0),
                tf.TensorArray(
                    like.dtype, count, infer_shape=False, element_shape=like.shape
                ),
            ),
            parallel_iterations=1,
        )
        return model.task.examples(outputs.concat(), labels)

    def per_example(
        self,
        data: FederatedData,
        state: State,
        kept_of: Callable[[np.ndarray], Kept],
        rows: np.ndarray,
    ) -> dict[str, np.ndarray]:
        """Evaluates examples, each with the model of the client that holds it.

        Args:
          data: The population.
          state: What the server has.
          kept_of: Gives what some clients keep, by their numbers in the population,
            stacked.
          rows: The numbers of the examples, [m], those of a client together.

        Returns:
          What `Task.examples` gives of each, [m].
        """
        holders = data.client_of_row[rows]
        starts = np.flatnonzero(np.diff(holders, prepend=-1))
        parts = []
        ends = np.append(starts, len(rows))
        for block in _blocks(starts):
            splits = ends[block.start : block.stop + 1]
            some = rows[splits[0] : splits[-1]]
            found = self._run(
                tf.nest.map_structure(tf.convert_to_tensor, state),
                tf.nest.map_structure(
                    lambda leaf: to_tensor(np.asarray(leaf)),
                    kept_of(holders[splits[:-1]]),
                ),
                tf.constant(self._transform(data.x[some])),
                tf.constant(data.y[some]),
                tf.constant(splits - splits[0], tf.int32),
            )
            parts.append(found)
        return joined(self._context.model.task, parts)


def _blocks(starts: np.ndarray) -> list[slice]:
    """Returns slices of clients, `_CLIENTS` at most, with some `_ROWS` together."""
    block = starts // _ROWS
    cuts = [0, *(np.flatnonzero(np.diff(block)) + 1), len(starts)]
    return [
        slice(first, min(first + _CLIENTS, b))
        for a, b in itertools.pairwise(cuts)
        for first in range(a, b, _CLIENTS)
    ]


def mean_kept(context: Context, kept: Sequence[Kept], examples: Sequence[int]) -> Kept:
    """Returns personal weights and statistics of some clients together.

    Args:
      context: What the method was made for, with weights that clients keep.
      kept: What each of them keeps, at least one.
      examples: How many examples each of them trained on.

    Returns:
      The means of the personal weights, each client counting alike, and where they
      keep statistics those of all their examples; nothing of the method's own.
    """
    personal = tuple(
        np.mean(leaves, axis=0)
        for leaves in zip(*(k.personal for k in kept), strict=True)
    )
    if not context.local_statistics:
        return Kept((), personal, ())
    _, origin = context.model.functional.initial_weights
    moments = [batch_norm.moments(k.statistics, origin) for k in kept]
    pooled = [
        np.average(parts, axis=0, weights=examples).astype(np.float32)
        for parts in zip(*moments, strict=True)
    ]
    statistics = map(np.asarray, batch_norm.from_moments(pooled, origin))
    return Kept((), personal, tuple(statistics))

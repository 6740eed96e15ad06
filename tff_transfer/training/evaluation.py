"""How good a model is, for each example and for each client."""

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer.data.federated import FederatedData
from tff_transfer.models import Model, Task
from tff_transfer.records.predictions import per_client

BATCH = 256


class Evaluator:
    """Evaluates weights of one model on one population, again and again.

    Args:
      model: The model.
      data: The population; `transform` makes the model's inputs of its `x`.
      transform: A function of rows [rows, ...].
    """

    def __init__(
        self,
        model: Model,
        data: FederatedData,
        transform: Callable[[np.ndarray], np.ndarray],
    ):
        self._data, self._transform, self._model = data, transform, model
        specs = tf.nest.map_structure(
            lambda array: tf.TensorSpec(array.shape, array.dtype), model.initial_weights
        )
        inputs = model.functional.input_spec['x']
        if model.takes_keys:
            inputs = inputs['inputs']
        # Traced once: a signature found by calls is traced for two sizes of batches.
        labels = tf.TensorSpec([None], tf.int32)
        self._step = tf.function(
            self._examples, input_signature=[specs, inputs, labels], autograph=False
        )

    def of_inputs(self, data: FederatedData) -> 'Evaluator':
        """Returns the same for examples whose `x` are the model's inputs already."""
        other = copy.copy(self)
        other._data, other._transform = data, lambda inputs: inputs
        return other

    def _examples(self, weights, inputs, labels):
        outputs = self._model.logits(weights, inputs, labels)
        return self._model.task.examples(outputs, labels)

    def per_example(
        self, weights: Sequence[np.ndarray], rows: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Evaluates weights on some of the examples.

        Args:
          weights: In the order of the model's `initial_weights`.
          rows: The numbers of the examples, [m].

        Returns:
          What `Task.examples` gives of each, [m].
        """
        weights = [
            tf.constant(weight, like.dtype)
            for weight, like in zip(weights, self._model.initial_weights, strict=True)
        ]
        parts = []
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            inputs = tf.constant(self._transform(self._data.x[some]))
            parts.append(self._step(weights, inputs, tf.constant(self._data.y[some])))
        return joined(self._model.task, parts)

    def losses(
        self, weights: Sequence[np.ndarray], clients: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Returns what losses over the training examples of clients come to.

        Args:
          weights: In the order of the model's `initial_weights`.
          clients: Their numbers in the population.

        Returns:
          By name, `losses` and `squared_losses`, the means of these over each client's
          examples, float64 [clients]; 0 of a client without examples.
        """
        rows = [np.r_[self._data.train_rows(client)] for client in clients]
        all_rows = np.concatenate([*rows, np.zeros(0, np.int64)])
        found = self.per_example(weights, all_rows)['loss'].astype(np.float64)
        counts = [len(mine) for mine in rows]
        ends = np.cumsum(counts, dtype=np.int64)
        return {
            name: np.array([np.sum(x) for x in np.split(values, ends)[:-1]])
            / np.maximum(counts, 1)
            for name, values in (
                ('losses', found),
                ('squared_losses', np.square(found)),
            )
        }


def joined(task: Task, parts: Sequence[Mapping]) -> dict[str, np.ndarray]:
    """Joins what `Task.examples` gives of groups of examples, of which none may be."""
    empty = dict.fromkeys(task.measures, np.zeros(0, np.float32))
    if task.classify is not None:
        empty['predicted'] = np.zeros(0, np.int32)
    return {
        name: np.concatenate([none, *(part[name] for part in parts)])
        for name, none in empty.items()
    }


def summary(
    task: Task, data: FederatedData, rows: np.ndarray, found: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Returns what the evaluation of some examples comes to.

    Args:
      task: What the model is trained for.
      data: The population.
      rows: The numbers of the examples, [m].
      found: The task's measures of each, [m].

    Returns:
      The measures' means over the examples, and of the one that decides the mean over
      clients of each one's mean; nothing if there are no examples.
    """
    if not len(rows):
        return {}
    means = {
        name: float(np.mean(found[name], dtype=np.float64)) for name in task.measures
    }
    _, of_clients = per_client(data, rows, found[task.decides])
    return {**means, task.per_client: float(np.mean(of_clients))}

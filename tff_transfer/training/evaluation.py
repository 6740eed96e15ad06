"""How good a model is, for each example and for each client."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer.data.federated import FederatedData
from tff_transfer.models import Model
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
        self._step = tf.function(self._examples, reduce_retracing=True)

    def _examples(self, weights, inputs, labels):
        logits = self._model.logits(weights, inputs)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return loss, tf.argmax(logits, axis=1, output_type=tf.int32)

    def per_example(
        self, weights: Sequence[np.ndarray], rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Evaluates weights on some of the examples.

        Args:
          weights: In the order of the model's `initial_weights`.
          rows: The numbers of the examples, [m].

        Returns:
          Each one's cross-entropy, float32 [m], and predicted class, int32 [m].
        """
        if not len(rows):
            return np.zeros(0, np.float32), np.zeros(0, np.int32)
        weights = [
            tf.constant(weight, like.dtype)
            for weight, like in zip(weights, self._model.initial_weights, strict=True)
        ]
        parts = []
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            inputs = tf.constant(self._transform(self._data.x[some]))
            parts.append(self._step(weights, inputs, tf.constant(self._data.y[some])))
        losses, predicted = zip(*parts, strict=True)
        return np.concatenate(losses), np.concatenate(predicted)


def summary(
    data: FederatedData, rows: np.ndarray, loss: np.ndarray, predicted: np.ndarray
) -> dict[str, float]:
    """Returns what the evaluation of some examples comes to.

    Args:
      data: The population.
      rows: The numbers of the examples, [m].
      loss: Each one's loss, float32 [m].
      predicted: Each one's predicted class, int32 [m].

    Returns:
      `loss` and `accuracy`, means over the examples, and `accuracy_per_client`, the
      mean over clients of each one's accuracy; nothing if there are no examples.
    """
    if not len(rows):
        return {}
    correct = predicted == data.y[rows]
    _, accuracies = per_client(data, rows, correct)
    return {
        'loss': float(np.mean(loss, dtype=np.float64)),
        'accuracy': float(np.mean(correct)),
        'accuracy_per_client': float(np.mean(accuracies)),
    }

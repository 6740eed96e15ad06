"""Images that a generative model makes of weights."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import randomness

BATCH = 100


class Sampler:
    """Makes images with weights of one model, again and again.

    Args:
      model: A `models.Model` that has `generate`.
      batch: Images at a time; fewer are filled up, so that the model is traced once.
    """

    def __init__(self, model, batch: int = BATCH):
        self._batch = batch
        self._like = model.initial_weights
        specs = [tf.TensorSpec(weight.shape, weight.dtype) for weight in self._like]
        labels = tf.TensorSpec([batch], tf.int32)
        key = tf.TensorSpec([2], tf.int32)
        self._generate = tf.function(
            model.generate, input_signature=[specs, labels, key], autograph=False
        )

    def images(
        self, weights: Sequence[np.ndarray], labels: np.ndarray, seed: int
    ) -> np.ndarray:
        """Returns an image for each label.

        Args:
          weights: In the order of the model's `initial_weights`.
          labels: int [n].
          seed: Of what is drawn; images are a function of these three and `batch`.

        Returns:
          float32 [n, height, width, channels] in [0, 1].
        """
        weights = [
            tf.constant(weight, like.dtype)
            for weight, like in zip(weights, self._like, strict=True)
        ]
        count, batch = len(labels), self._batch
        padded = np.zeros(max(1, -(-count // batch)) * batch, np.int32)
        padded[:count] = labels
        parts = []
        for number, some in enumerate(padded.reshape(-1, batch)):
            draw = randomness.generator(seed, 'generated images', number)
            key = draw.integers(-(2**31), 2**31, 2, np.int32)
            parts.append(self._generate(weights, tf.constant(some), tf.constant(key)))
        return np.concatenate([np.asarray(part) for part in parts])[:count]


def grid_labels(classes: int, columns: int, rows: int = 10) -> np.ndarray:
    """Returns what a grid of samples shows: in each row one of the first classes."""
    return np.repeat(np.arange(min(classes, rows), dtype=np.int32), columns)

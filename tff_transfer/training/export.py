"""A trained model as a SavedModel that plain TensorFlow loads."""

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_transfer import files
from tff_transfer.training.setup import Setup


class Classifier(tf.Module):
    """A trained classifier, from raw inputs to probabilities.

    Args:
      setup: What it was trained in.
      weights: The trained weights.
    """

    def __init__(self, setup: Setup, weights: Sequence[np.ndarray]):
        super().__init__()
        self.tracked = setup.tracked
        self.weights = [tf.Variable(weight) for weight in weights]
        self._setup = setup
        self.__call__ = tf.function(self._classify, input_signature=[setup.input_spec])

    def _classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = self._setup.model.logits(self.weights, self._setup.from_images(inputs))
        return {'logits': logits, 'probabilities': tf.nn.softmax(logits)}


def save(
    setup: Setup, weights: Sequence[np.ndarray], path: str | os.PathLike[str]
) -> None:
    """Saves a trained model with its backbone as a SavedModel.

    Its call and its `serving_default` signature take a batch of raw inputs as the
    data have them and give `logits` and `probabilities`, float32 [batch, classes].

    Args:
      setup: What it was trained in.
      weights: The trained weights.
      path: The folder to write, whole or not at all.
    """
    classifier = Classifier(setup, weights)
    with files.replacing(path) as new:
        tf.saved_model.save(classifier, str(new), signatures=classifier.__call__)

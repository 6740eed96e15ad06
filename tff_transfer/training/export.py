"""A trained model as a SavedModel that plain TensorFlow loads."""

import os

import tensorflow as tf

from tff_transfer import files
from tff_transfer.training.setup import Setup


class Classifier(tf.Module):
    """A trained classifier, from raw inputs to probabilities.

    Args:
      setup: What the network was trained in.
      network: The network with its trained weights.
    """

    def __init__(self, setup: Setup, network: tf.keras.Model):
        super().__init__()
        self.network, self.tracked = network, setup.tracked
        self._setup = setup
        self.__call__ = tf.function(self._classify, input_signature=[setup.input_spec])

    def _classify(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        x = self._setup.from_images(inputs)
        if self._setup.model.takes_keys:
            x = {'inputs': x, 'key': tf.zeros([tf.shape(x)[0], 2], tf.int32)}
        logits = self.network(x, training=False)
        return {'logits': logits, 'probabilities': tf.nn.softmax(logits)}


def save(setup: Setup, network: tf.keras.Model, path: str | os.PathLike[str]) -> None:
    """Saves a trained network with its backbone as a SavedModel.

    Its call and its `serving_default` signature take a batch of raw inputs as the
    data have them and give `logits` and `probabilities`, float32 [batch, classes].

    Args:
      setup: What the network was trained in.
      network: The network with its trained weights.
      path: The folder to write, whole or not at all.
    """
    classifier = Classifier(setup, network)
    with files.replacing(path) as new:
        tf.saved_model.save(classifier, str(new), signatures=classifier.__call__)

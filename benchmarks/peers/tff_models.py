"""The workloads' models in Keras and TFF, with the workloads' initial weights."""

import collections

import tensorflow as tf
import tensorflow_federated as tff

from benchmarks.peers.runner import Work
from tff_transfer import models


def mobilenet(classes: int, seed: int) -> tf.keras.Model:
    """Returns MobileNetV2 0.35 for 96 x 96 images with a linear layer on top."""
    tf.keras.utils.set_random_seed(seed)
    backbone = tf.keras.applications.MobileNetV2(
        (96, 96, 3), alpha=0.35, include_top=False, weights=None, pooling='avg'
    )
    logits = tf.keras.layers.Dense(classes)(backbone.output)
    return tf.keras.Model(backbone.input, logits)


def keras_network(work: Work) -> tf.keras.Model:
    """Returns the workload's network with its initial weights."""
    shape, classes = work.x.shape[1:], work.weights[-1].shape[0]
    if work.model == 'mobilenet':
        network = mobilenet(classes, 0)
    else:
        make = models.mlp if work.model == 'linear' else models.cnn
        network = make(shape, classes).network
    network.set_weights(work.weights)
    return network


def tff_model(work: Work):
    """Returns what `tff.learning.algorithms` takes.

    A functional model with loss and accuracy, as this package trains; for networks
    with BatchNorm, which TFF allows in no functional model, a function that makes
    TFF's model of the Keras network.
    """
    if work.model != 'mobilenet':
        return models.from_keras(keras_network(work)).functional
    spec = collections.OrderedDict(
        x=tf.TensorSpec([None, *work.x.shape[1:]], tf.float32),
        y=tf.TensorSpec([None], tf.int32),
    )

    def make_model():
        return tff.learning.models.from_keras_model(
            mobilenet(work.weights[-1].shape[0], 0),
            loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            input_spec=spec,
        )

    return make_model

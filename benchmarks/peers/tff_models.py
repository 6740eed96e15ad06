"""The workloads' models in Keras and TFF, with the workloads' initial weights."""

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from benchmarks.peers.runner import Work
from tff_transfer import backbones, models
from tff_transfer.backbones import applications
from tff_transfer.data.cohorts import Cohort, choose_clients, training_cohort
from tff_transfer.data.federated import FederatedData


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
    elif work.model == 'mlp':
        network = models.mlp(shape, classes, (work.weights[0].shape[1],)).network
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


def backbone(handle: str) -> backbones.Backbone:
    """Loads a backbone; a network by name has random weights."""
    weights = 'random' if handle in applications.families() else None
    return backbones.load(handle, weights=weights)


def population(work: Work, classes: int) -> FederatedData:
    """Returns a workload's clients, with all their examples to train on."""
    counts = np.diff(work.row_splits)
    ids = tuple(map(str, range(work.clients)))
    return FederatedData(
        work.model, work.x, work.y, ids, counts, np.zeros_like(counts), classes
    )


def cohort(data: FederatedData, work: Work, number: int, clients: int) -> Cohort:
    """Returns the clients of a round, drawn, and their examples, shuffled.

    Args:
      data: The population, with whatever inputs the model takes.
      work: The workload.
      number: The round, from 1.
      clients: How many take part.
    """
    return training_cohort(
        data,
        choose_clients(len(data), clients, seed=0, round_number=number),
        batch_size=work.batch_size,
        epochs=1,
        seed=0,
        round_number=number,
    )


def fed_avg(model, work: Work) -> tff.learning.templates.LearningProcess:
    """Returns federated averaging of what `tff.learning.algorithms` takes."""
    return tff.learning.algorithms.build_weighted_fed_avg(
        model,
        tff.learning.optimizers.build_sgdm(work.learning_rate),
        tff.learning.optimizers.build_sgdm(1.0),
    )

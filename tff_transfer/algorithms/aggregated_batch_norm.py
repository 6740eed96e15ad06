"""Federated averaging in which the statistics of BatchNorm are averaged too."""

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import batch_norm
from tff_transfer.algorithms import local_training
from tff_transfer.models import Model

# How much of the server's statistics stays in a round. Where the weights move fast,
# older statistics are those of another network: see docs/batch_norm.md.
MOMENTUM = 0.25

_MeasuredProcessOutput = tff.templates.MeasuredProcessOutput


def build(
    model: Model,
    client_optimizer: tff.learning.optimizers.Optimizer,
    server_optimizer: tff.learning.optimizers.Optimizer,
) -> tff.learning.templates.LearningProcess:
    """Builds federated averaging that keeps BatchNorm's statistics on the server.

    Clients train with the statistics of each batch, as central training does. They
    send the moments of all that they saw, and the server moves its statistics towards
    those of all clients' examples together, which evaluation then uses. TFF's own
    federated averaging (`tff.learning.algorithms.build_weighted_fed_avg`) leaves the
    statistics as they were at the start (its issue 910).

    Args:
      model: A model with `statistics`.
      client_optimizer: The optimizer on the clients.
      server_optimizer: The optimizer on the server.

    Returns:
      The process. The statistics are the non-trainable ones of its model weights.
    """
    weights_type = local_training.type_of(_weights(model))
    return tff.learning.templates.compose_learning_process(
        _initial_weights(model),
        tff.learning.templates.build_broadcast_process(weights_type),
        _client_work(model, client_optimizer, weights_type),
        tff.aggregators.MeanFactory().create(weights_type, tff.TensorType(np.float32)),
        _finalizer(server_optimizer, weights_type),
    )


def _weights(model: Model) -> tff.learning.models.ModelWeights:
    return tff.learning.models.ModelWeights(*model.split(model.initial_weights))


def _initial_weights(model: Model):
    @tff.tensorflow.computation
    def initial_weights():
        return tf.nest.map_structure(tf.constant, _weights(model))

    return initial_weights


def _client_work(model: Model, optimizer, weights_type):
    data_type = local_training.data_type(model)
    train = local_training.build(model, optimizer)

    @tff.tensorflow.computation(weights_type, data_type)
    def client_update(weights, dataset):
        trained = train(weights.trainable, weights.non_trainable, dataset)
        update = tff.learning.models.ModelWeights(trained.delta, trained.moments)
        result = tff.learning.templates.ClientResult(update, trained.weight)
        return result, trained.metrics

    @tff.federated_computation
    def initialize():
        return tff.federated_value((), tff.SERVER)

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(weights_type, tff.CLIENTS),
        tff.FederatedType(data_type, tff.CLIENTS),
    )
    def next_fn(state, weights, client_data):
        result, metrics = tff.federated_map(client_update, (weights, client_data))
        measured = local_training.aggregated(model, metrics)
        return _MeasuredProcessOutput(state, result, measured)

    return tff.learning.templates.ClientWorkProcess(initialize, next_fn)


def _finalizer(optimizer, weights_type):
    of_weights = tff.learning.templates.build_apply_optimizer_finalizer(
        optimizer, weights_type
    )

    @tff.tensorflow.computation(weights_type.non_trainable, weights_type.non_trainable)
    @tf.function
    def move(statistics, moments):
        return moved(statistics, moments)

    @tff.federated_computation(
        of_weights.initialize.type_signature.result,
        tff.FederatedType(weights_type, tff.SERVER),
        tff.FederatedType(weights_type, tff.SERVER),
    )
    def next_fn(state, weights, update):
        applied = of_weights.next(state, weights, update.trainable)
        statistics = tff.federated_map(
            move, (weights.non_trainable, update.non_trainable)
        )
        result = tff.federated_zip(
            tff.learning.models.ModelWeights(applied.result.trainable, statistics)
        )
        return _MeasuredProcessOutput(applied.state, result, applied.measurements)

    return tff.learning.templates.FinalizerProcess(of_weights.initialize, next_fn)


def moved(statistics, moments):
    """Returns the server's statistics after a round.

    Args:
      statistics: Those before.
      moments: The moments of the round's examples about them. Where no client had an
        example they are not finite, and the statistics stay.
    """
    of_round = batch_norm.from_moments(moments, statistics)
    return tuple(
        tf.where(tf.math.is_finite(new), MOMENTUM * old + (1 - MOMENTUM) * new, old)
        for old, new in zip(statistics, of_round, strict=True)
    )

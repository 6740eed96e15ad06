"""FedBN: BatchNorm layers stay with each client, all else is averaged.

Li et al. 2021, "FedBN: Federated learning on non-IID features via local batch
normalization". What a client keeps is an argument and a result of the round, placed at
clients: a simulation stores it between rounds, as the clients' devices would.
"""

import collections
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import batch_norm
from tff_transfer.algorithms import local_training
from tff_transfer.models import Model


class State(NamedTuple):
    """What the server has.

    Attributes:
      weights: `tff.learning.models.ModelWeights` of what is averaged.
      aggregator: The state of the aggregation.
      finalizer: The state of the server's optimizer.
    """

    weights: tff.learning.models.ModelWeights
    aggregator: object
    finalizer: object


def kept_initially(model: Model) -> tuple[np.ndarray, ...]:
    """Returns what a client has before its first round: scales, then statistics."""
    trained, statistics = model.functional.initial_weights
    return (*_part(model, trained, local=True), *statistics)


def joined(model: Model, shared, kept) -> list:
    """Returns all weights of a model for one client, in the model's order.

    Args:
      model: The model.
      shared: What is averaged.
      kept: What the client keeps.
    """
    count, rest = len(model.statistics.scales), iter(shared)
    scales = iter(kept[:count])
    trained = [
        next(scales) if number in model.statistics.scales else next(rest)
        for number in range(len(model.functional.initial_weights[0]))
    ]
    return [*trained, *kept[count:]]


def _part(model: Model, trained, *, local: bool) -> tuple:
    return tuple(
        value
        for number, value in enumerate(trained)
        if (number in model.statistics.scales) == local
    )


def build(
    model: Model,
    client_optimizer: tff.learning.optimizers.Optimizer,
    server_optimizer: tff.learning.optimizers.Optimizer,
) -> tff.templates.IterativeProcess:
    """Builds FedBN.

    Args:
      model: A model with `statistics`.
      client_optimizer: The optimizer on the clients.
      server_optimizer: The optimizer on the server.

    Returns:
      A process whose `next` takes the `State`, the clients' batches and what each of
      them keeps (`kept_initially` at first), and gives the state, the metrics and what
      the clients keep now: their trained scales, and the statistics of all that they
      saw in this round; without examples, what they had.
    """
    shared = _part(model, model.functional.initial_weights[0], local=False)
    initial = tff.learning.models.ModelWeights(shared, ())
    weights_type = local_training.type_of(initial)
    kept_type = local_training.type_of(kept_initially(model))
    data_type = local_training.data_type(model)
    aggregator = tff.aggregators.MeanFactory().create(
        weights_type.trainable, tff.TensorType(np.float32)
    )
    finalizer = tff.learning.templates.build_apply_optimizer_finalizer(
        server_optimizer, weights_type
    )
    train = local_training.build(model, client_optimizer)
    scales = len(model.statistics.scales)

    @tff.tensorflow.computation
    def initial_weights():
        return tf.nest.map_structure(tf.constant, initial)

    @tff.federated_computation
    def initialize():
        weights = tff.federated_eval(initial_weights, tff.SERVER)
        return tff.federated_zip(
            State(weights, aggregator.initialize(), finalizer.initialize())
        )

    @tff.tensorflow.computation(weights_type, data_type, kept_type)
    def client_update(weights, dataset, kept):
        before, statistics = model.split(joined(model, weights.trainable, kept))
        trained = train(before, statistics, dataset)
        own = _part(model, trained.delta, local=True)
        measured = batch_norm.from_moments(trained.moments, statistics)
        now = [old - delta for old, delta in zip(kept[:scales], own, strict=True)]
        now += [
            tf.where(trained.weight > 0, new, old)
            for new, old in zip(measured, statistics, strict=True)
        ]
        delta = _part(model, trained.delta, local=False)
        return delta, trained.weight, trained.metrics, tuple(now)

    @tff.federated_computation(
        initialize.type_signature.result,
        tff.FederatedType(data_type, tff.CLIENTS),
        tff.FederatedType(kept_type, tff.CLIENTS),
    )
    def next_fn(state, client_data, kept):
        at_clients = tff.federated_broadcast(state.weights)
        delta, weight, metrics, kept_now = tff.federated_map(
            client_update, (at_clients, client_data, kept)
        )
        aggregated = aggregator.next(state.aggregator, delta, weight)
        applied = finalizer.next(state.finalizer, state.weights, aggregated.result)
        measured = collections.OrderedDict(
            client_work=local_training.aggregated(model, metrics),
            aggregator=aggregated.measurements,
            finalizer=applied.measurements,
        )
        now = tff.federated_zip(State(applied.result, aggregated.state, applied.state))
        return now, tff.federated_zip(measured), kept_now

    return tff.templates.IterativeProcess(initialize, next_fn)

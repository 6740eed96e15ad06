"""From a configuration to the federated process that trains a model."""

import tensorflow_federated as tff

from tff_transfer import models
from tff_transfer.algorithms import aggregated_batch_norm, fed_bn
from tff_transfer.training import optimizers
from tff_transfer.training.config import TrainingConfig


def build(
    config: TrainingConfig, model: models.Model
) -> tff.templates.IterativeProcess:
    """Builds federated averaging (McMahan et al. 2017; with a server optimizer,
    Reddi et al. 2021) as `tff.learning.algorithms.build_weighted_fed_avg`, or as
    `algorithms` does for a model whose BatchNorm is trained.
    """
    client = optimizers.build(
        config.client_optimizer,
        config.client_learning_rate,
        momentum=config.client_momentum,
        epsilon=config.client_epsilon,
    )
    server = optimizers.build(
        config.server_optimizer,
        config.server_learning_rate,
        momentum=config.server_momentum,
        epsilon=config.server_epsilon,
    )
    if model.statistics is None:
        return tff.learning.algorithms.build_weighted_fed_avg(
            model.functional, client, server
        )
    if model.statistics.local:
        return fed_bn.build(model, client, server)
    return aggregated_batch_norm.build(model, client, server)

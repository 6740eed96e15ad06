"""From a configuration to a generative model."""

from tff_transfer import models
from tff_transfer.data.federated import FederatedData
from tff_transfer.models.generative import architecture
from tff_transfer.models.generative.cvae import CVAE
from tff_transfer.training.config import Config, ModelConfig


def model_of(config: Config, data: FederatedData) -> models.Model:
    """Makes the generative model that a configuration names.

    Args:
      config: The configuration, checked and resolved.
      data: The population, which has images.
    """
    return architecture.build(
        architecture_of(config.model),
        data.x.shape[1:],
        data.num_classes,
        config.training.seed,
        data.x.dtype,
    )


def architecture_of(config: ModelConfig) -> architecture.Architecture:
    """Returns what kind of generative model a configuration names."""
    return CVAE(config.latent_size)

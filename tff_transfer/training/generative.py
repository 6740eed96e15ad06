"""From a configuration to a generative model."""

import pathlib

from tff_transfer import models
from tff_transfer.algorithms.teachers import Pretrained
from tff_transfer.data.federated import FederatedData
from tff_transfer.models.generative import adversaries, architecture
from tff_transfer.models.generative.architecture import Architecture, Transfer
from tff_transfer.models.generative.cvae import CVAE
from tff_transfer.models.generative.diffusion import Diffusion
from tff_transfer.models.generative.gan import GAN
from tff_transfer.records import network_weights
from tff_transfer.training.config import Config
from tff_transfer.training.model_config import ModelConfig


def model_of(config: Config, data: FederatedData) -> models.Model:
    """Makes the generative model that a configuration names.

    Args:
      config: The configuration, checked and resolved.
      data: The population, which has images.

    Raises:
      UserError: What it starts from is of another architecture or cannot be read, or
        there is no part of a name to freeze.
    """
    of = architecture_of(config.model)
    shape, classes = data.x.shape[1:], data.num_classes
    seed = config.training.seed
    transfer = transfer_of(config, of, shape, classes)
    build = adversaries.build if isinstance(of, GAN) else architecture.build
    return build(of, shape, classes, seed, data.x.dtype, transfer)


def architecture_of(config: ModelConfig) -> Architecture | GAN:
    """Returns what kind of generative model a configuration names."""
    if config.model == 'cvae':
        return CVAE(config.latent_size)
    if config.model == 'gan':
        return GAN(
            config.latent_size,
            conditional=config.conditional,
            loss=config.gan_loss,
            smoothing=config.label_smoothing,
        )
    return Diffusion(config.noise_schedule, config.noise_steps, config.sampling_steps)


def transfer_of(
    config: Config,
    of: Architecture | GAN,
    image_shape: tuple[int, ...],
    num_classes: int,
) -> Transfer:
    """Returns what the model of a configuration takes from one trained before.

    Args:
      config: The configuration.
      of: The model's architecture.
      image_shape: Height, width and channels.
      num_classes: Classes.

    Raises:
      UserError: The weights cannot be read, or are of another architecture.
    """
    if config.model.start_from is None:
        return Transfer()
    networks = of.networks(image_shape, num_classes, config.training.seed)
    like = {name: network.get_weights() for name, network in networks.items()}
    path = network_weights.place(config.model.start_from)
    weight = None
    if isinstance(config.distill_from, Pretrained):
        weight = config.distill_from.weight
    return Transfer(network_weights.load(path, like), config.model.frozen_parts, weight)


def files(config: Config) -> dict[str, pathlib.Path]:
    """Returns the files that a run must find the same again."""
    if config.model.start_from is None:
        return {}
    return {'start': network_weights.place(config.model.start_from)}

"""From a configuration to what it names: clients and a backbone."""

import dataclasses

from tff_transfer import backbones
from tff_transfer.backbones import group_norm
from tff_transfer.data import (
    by_client,
    emnist,
    synthetic_alpha_beta,
    synthetic_writers,
)
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.training.config import Config, DataConfig

# What a configuration says of clients that are given, not loaded.
_OF_GIVEN_DATA = ('unseen_fraction', 'split_seed')


def load_data(config: DataConfig) -> FederatedData:
    """Loads the clients that a configuration names.

    Raises:
      UserError: If the source cannot be reached or read.
    """
    splits = {'test_fraction': config.test_fraction, 'split_seed': config.split_seed}
    if config.dataset == 'emnist':
        data = emnist.load(only_digits=config.only_digits, path=config.data_path)
    elif config.dataset == 'by_client':
        data = by_client.load(config.data_path, **splits)
    elif config.dataset == 'synthetic_writers':
        data = synthetic_writers.generate(
            config.num_writers,
            config.examples_per_writer,
            seed=config.data_seed,
            classes=10 if config.only_digits else 62,
            test_fraction=config.test_fraction,
        )
    else:
        data = synthetic_alpha_beta.generate(
            config.alpha,
            config.beta,
            num_clients=config.num_writers,
            seed=config.data_seed,
            **splits,
        )
    if config.max_clients is not None:
        data = data.select(range(min(config.max_clients, len(data))))
    return data


def check_given(config: DataConfig, data: FederatedData) -> None:
    """Checks clients that are given instead of those that a configuration names.

    Raises:
      UserError: There are none, or the configuration says something of them that has
        no effect.
    """
    if not len(data):
        raise UserError(f'data={data.name} has no clients; give some')
    ignored = [
        f'{field.name}={getattr(config, field.name)!r}'
        for field in dataclasses.fields(config)
        if field.name not in _OF_GIVEN_DATA
        and getattr(config, field.name) != field.default
    ]
    if ignored:
        raise UserError(
            f'{", ".join(ignored)} of the configuration say which clients to load, but'
            f' data={data.name} is given; leave one of both out'
        )


def load_backbone(config: Config) -> backbones.Backbone | None:
    """Loads the backbone that a configuration names, if it names one.

    Raises:
      UserError: If it cannot be had.
    """
    if config.model.model != 'backbone':
        return None
    backbone = backbones.load(
        config.model.backbone,
        image_size=config.model.image_size,
        weights=config.model.backbone_weights,
        seed=config.training.seed,
    )
    if config.model.batch_norm == 'group_norm':
        return group_norm.replaced(backbone)
    return backbone

"""From a configuration to what it names: clients and a backbone."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Iterator

from tff_transfer import backbones
from tff_transfer.backbones import group_norm
from tff_transfer.data import (
    by_client,
    emnist,
    lung_phantoms,
    synthetic_alpha_beta,
    synthetic_writers,
)
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig

# What a configuration says of clients that are given, not loaded.
_OF_GIVEN_DATA = ('unseen_fraction', 'split_seed')
# What is loaded in a block of `kept`, by its configuration and the size of its images.
_KEPT = contextvars.ContextVar('kept', default=None)


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keeps the clients that are loaded in the block, for all its runs to use."""
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def load_data(
    config: Config, backbone: backbones.Backbone | None = None
) -> FederatedData:
    """Loads the clients that a configuration names.

    Args:
      config: The configuration, checked.
      backbone: The backbone, such as `load_backbone` gives. Image files of mixed size
        are brought to its size; without it, to `config.model.image_size` if given.

    Raises:
      UserError: If the source cannot be reached or read.
    """
    image_size, given = None, config.model.image_size
    if backbone is not None:
        image_size = backbone.image_size
    elif given is not None:
        image_size = (given, given)
    loaded, named = _KEPT.get(), (config.data, image_size)
    if loaded is None:
        loaded = {}
    if named not in loaded:
        loaded[named] = _load(*named)
    data = loaded[named]
    without_backbone = given is not None and config.model.model != 'backbone'
    if without_backbone and data.x.shape[1:3] != image_size:
        raise UserError(
            f'--image_size={given} is what image files of mixed size are brought to,'
            f' but the inputs of {data.name} are all of shape {data.x.shape[1:]};'
            ' leave it out'
        )
    return data


def _load(config: DataConfig, image_size: tuple[int, int] | None) -> FederatedData:
    data = _source(config, image_size)
    if config.max_clients is not None:
        data = data.select(range(min(config.max_clients, len(data))))
    return data


def _source(config: DataConfig, image_size: tuple[int, int] | None) -> FederatedData:
    splits = {'test_fraction': config.test_fraction, 'split_seed': config.split_seed}
    if config.dataset == 'emnist':
        return emnist.load(only_digits=config.only_digits, path=config.data_path)
    if config.dataset == 'by_client':
        return by_client.load(
            config.data_path,
            image_key=config.image_key,
            label_key=config.label_key,
            client_key=config.client_key,
            image_size=image_size,
            **splits,
        )
    if config.dataset == 'synthetic_writers':
        return synthetic_writers.generate(
            config.num_writers,
            config.examples_per_writer,
            seed=config.data_seed,
            classes=10 if config.only_digits else 62,
            test_fraction=config.test_fraction,
        )
    if config.dataset == 'lung_phantoms':
        return lung_phantoms.of_hospitals(
            config.num_writers,
            config.examples_per_writer,
            seed=config.data_seed,
            test_fraction=config.test_fraction,
        )
    return synthetic_alpha_beta.generate(
        config.alpha,
        config.beta,
        num_clients=config.num_writers,
        seed=config.data_seed,
        **splits,
    )


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

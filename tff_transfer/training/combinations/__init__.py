"""Which values of a configuration fit together, by what they are about."""

from tff_transfer.aggregation.robust import Robust
from tff_transfer.algorithms import registry
from tff_transfer.compression.federated_dropout import FederatedDropout
from tff_transfer.errors import UserError
from tff_transfer.simulation.fleet.ideal import Ideal
from tff_transfer.simulation.timing.synchronous import Synchronous
from tff_transfer.training.combinations import (
    attacks,
    compression,
    devices,
    dropout,
    generative,
    methods,
    model,
    one_round,
    privacy,
    robust,
    secure,
    selection,
    several,
    teachers,
    timing,
    training,
)
from tff_transfer.training.model_config import GENERATIVE


def check(config) -> None:
    """Checks that the parts of a `Config` fit together.

    Raises:
      UserError: In one line that names the flag.
    """
    name = registry.name_of(config.algorithm)
    _check_sources(config)
    if config.model.model in GENERATIVE:
        generative.check(config, name)
    if config.model.model == 'several':
        several.check(config, name)
    methods.check(config, name)
    if config.model.model not in GENERATIVE:
        teachers.check(config)
    methods.check_layers(config, name)
    if not isinstance(config.fleet, Ideal):
        devices.check(config, name)
    if config.private:
        privacy.check(config, name)
    compression.check(config, name)
    if isinstance(config.compression_down, FederatedDropout):
        dropout.check(config, name)
    selection.check(config, name)
    attacks.check(config, name)
    if isinstance(config.aggregation, Robust):
        robust.check(config, name)
    secure.check(config, name)
    if not isinstance(config.timing, Synchronous):
        timing.check(config, name)
    if name in registry.OF_ONE_ROUND:
        one_round.check(config, name)
    model.check(config, name)
    training.check(config)


def _check_sources(config) -> None:
    """Checks that it is said where data, inputs of one size and a cluster are."""
    data, kind = config.data, config.model.model
    if data.dataset == 'by_client' and not data.data_path:
        raise UserError(
            '--dataset=by_client needs --data_path: your npz, csv, parquet or'
            ' sqlite file, or a folder of images'
        )
    without_backbone = config.model.image_size is not None and kind != 'backbone'
    if without_backbone and data.dataset != 'by_client':
        raise UserError(
            '--image_size is for a backbone, or for image files of mixed size with'
            f' --dataset=by_client; leave it out of --dataset={data.dataset} with'
            f' --model={kind}'
        )
    on_cluster = config.training.runtime == 'cluster'
    if on_cluster and not config.training.cluster_address:
        raise UserError(
            '--runtime=cluster needs --cluster_address: HOST:PORT of the head'
            ' (docs/cluster.md)'
        )

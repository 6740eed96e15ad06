"""What goes with federated dropout."""

from tff_transfer.aggregation.plain import Plain
from tff_transfer.algorithms import registry
from tff_transfer.compression.nothing import NoCompression
from tff_transfer.errors import UserError
from tff_transfer.privacy import registry as privacy_registry


def check(config, name: str) -> None:
    """Checks that a `Config` goes with federated dropout.

    Args:
      config: The configuration, whose `compression_down` is a `FederatedDropout`.
      name: That of its method.

    Raises:
      UserError: In one line that names the flag.
    """
    said, model = '--compression_down=federateddropout', config.model
    if name not in registry.BY_SUB_NETWORKS:
        raise UserError(
            f'{said} sends each client a part of the weights, but with --algorithm='
            f'{name} more than these travels, or stays; use one of'
            f' {", ".join(registry.BY_SUB_NETWORKS)}'
        )
    if model.model != 'cnn' and not model.hidden_units:
        raise UserError(
            f'{said} leaves out units of hidden layers; give --hidden_units, or'
            ' --model=cnn'
        )
    if model.finetune == 'head_then_all' or model.batch_norm in ('local', 'aggregate'):
        raise UserError(
            f'{said} is for weights that all travel in all rounds; use another'
            ' --finetune than head_then_all, and --batch_norm=frozen or group_norm'
        )
    if not isinstance(config.compression, NoCompression):
        raise UserError(
            f'{said} has clients send what they got, which --compression would send as'
            ' a whole; leave it out'
        )
    if not isinstance(config.aggregation, Plain):
        raise UserError(
            f'{said} has clients send unlike parts of an update, which the server puts'
            ' in their places; use --aggregation=plain'
        )
    privacy = privacy_registry.name_of(config.privacy)
    on_clients = (*privacy_registry.ON_CLIENTS, *privacy_registry.OF_EXAMPLES)
    if privacy in on_clients:
        raise UserError(
            f'with --privacy={privacy} clients add noise to all weights, also to those'
            f' that {said} leaves out; use another --privacy'
        )

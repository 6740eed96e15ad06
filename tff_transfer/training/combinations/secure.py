"""What goes with secure sums."""

from tff_transfer.aggregation.secure import Secure
from tff_transfer.algorithms import registry
from tff_transfer.compression.nothing import NoCompression
from tff_transfer.errors import UserError
from tff_transfer.privacy import registry as privacy_registry
from tff_transfer.privacy.distributed import Distributed


def check(config, name: str) -> None:
    """Checks that a `Config` goes with secure sums, where it has any.

    Args:
      config: The configuration.
      name: The name of its method.

    Raises:
      UserError: In one line that names the flag.
    """
    if isinstance(config.aggregation, Secure):
        _check_aggregation(config, name)
    secure = {
        '--aggregation=secure': isinstance(config.aggregation, Secure),
        '--privacy=distributed': isinstance(config.privacy, Distributed),
    }
    for flag, given in secure.items():
        if given and config.training.runtime == 'stock':
            raise UserError(
                f"{flag} sums securely, which TFF's own worker cannot; use"
                ' --runtime=compiled'
            )


def _check_aggregation(config, name: str) -> None:
    said = '--aggregation=secure'
    config.aggregation.quantiser(
        config.training.clients_per_round, config.training.weighting
    )
    kind = privacy_registry.name_of(config.privacy)
    if config.private and kind not in privacy_registry.OF_EXAMPLES:
        raise UserError(
            f'{said} shows the server a sum, but --privacy={kind} has a sum of its own;'
            ' use --privacy=distributed alone, whose sums are secure'
        )
    if name in registry.BESIDE_THE_MEAN:
        raise UserError(
            f'{said} hides updates in their mean, but --algorithm={name} sends more or'
            ' nothing; use another algorithm'
        )
    if config.model.batch_norm == 'aggregate':
        raise UserError(
            f'{said} would clip BatchNorm statistics as it does weights; use another'
            ' --batch_norm'
        )
    if not isinstance(config.compression, NoCompression):
        raise UserError(
            f'{said} adds whole numbers of all clients, which --compression would not'
            ' leave; leave it out'
        )

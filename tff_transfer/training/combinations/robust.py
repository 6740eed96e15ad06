"""What goes with a robust aggregation of updates."""

from tff_transfer.aggregation import registry as aggregation_registry
from tff_transfer.aggregation.geometric_median import GeometricMedian
from tff_transfer.aggregation.trust import FLTrust, FoolsGold
from tff_transfer.algorithms import registry
from tff_transfer.compression.nothing import NoCompression
from tff_transfer.compression.sparse import RandomK, TopK
from tff_transfer.errors import UserError
from tff_transfer.privacy import registry as privacy_registry


def check(config, name: str) -> None:
    """Checks that a `Config` goes with its robust aggregation.

    Args:
      config: The configuration, whose `aggregation` is a `Robust`.
      name: That of its method.

    Raises:
      UserError: In one line that names the flag.
    """
    chosen, training = config.aggregation, config.training
    kind = aggregation_registry.KINDS.name_of(chosen)
    said = f'--aggregation={kind}'
    if name in registry.BESIDE_THE_MEAN:
        raise UserError(
            f'{said} protects the mean of what clients send, but --algorithm={name}'
            ' sends more, which an attacker could choose, or nothing; use another'
            ' algorithm'
        )
    privacy = privacy_registry.name_of(config.privacy)
    if config.private and privacy not in privacy_registry.OF_EXAMPLES:
        raise UserError(
            f'{said} sees the update of each client, but --privacy={privacy} has a sum'
            ' of its own, to which it adds noise; leave one of them out'
        )
    if config.model.batch_norm == 'aggregate':
        raise UserError(
            f'{said} would compare BatchNorm statistics as it does weights; use another'
            ' --batch_norm'
        )
    if not chosen.weighted and training.weighting != 'uniform':
        raise UserError(
            f'{said} counts every client alike, since who says how many examples it has'
            ' may lie; give --weighting=uniform'
        )
    _check_compression(config, said)
    if isinstance(chosen, FLTrust | FoolsGold) and name in registry.BY_OWN_MODELS:
        raise UserError(
            f'{said} compares updates of clients that train one model, but with'
            f' --algorithm={name} each has its own; use another algorithm'
        )
    chosen.check(kind, training.clients_per_round)


def _check_compression(config, said: str) -> None:
    scheme, chosen = config.compression, config.aggregation
    if isinstance(scheme, NoCompression):
        return
    if isinstance(chosen, GeometricMedian) and chosen.bucket_size == 1:
        raise UserError(
            f'with {said} clients send their updates again in each iteration, which'
            ' --compression does not make smaller; leave it out'
        )
    if chosen.by_coordinate and isinstance(scheme, TopK | RandomK):
        raise UserError(
            f'{said} compares the updates number by number, of which --compression'
            ' makes most 0; use another scheme'
        )

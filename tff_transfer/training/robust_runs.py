"""Runs whose updates are combined robustly: what goes with it, and who is public."""

import numpy as np

from tff_transfer import randomness
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


def count_training(config, name: str, seen: int) -> int:
    """Returns how many seen clients train beside those that are public.

    Args:
      config: The configuration.
      name: What the data are called.
      seen: How many clients are seen.

    Raises:
      UserError: They are too few.
    """
    found = _with_public(config)
    if found is None:
        return seen
    said, public = found
    if config.training.clients_per_round + public > seen:
        raise UserError(
            f'--clients_per_round={config.training.clients_per_round} and'
            f' --{said}.public_clients={public} are more than the {seen} clients of'
            f' {name} to train on; give fewer'
        )
    return seen - public


def public_clients(config, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns who trains and whose examples are public, by a draw of the seed.

    Args:
      config: The configuration.
      seen: The numbers of all that are seen.

    Returns:
      The numbers of both, in the order of `seen`.
    """
    _, count = _with_public(config) or (None, 0)
    draw = randomness.generator(config.training.seed, 'public clients')
    public = np.sort(draw.choice(len(seen), count, replace=False))
    return np.delete(seen, public), seen[public]


def _with_public(config) -> tuple[str, int] | None:
    """Returns the name of what has public clients, and how many, if anything has.

    No aggregation that has some goes with a method that has.
    """
    if isinstance(config.aggregation, FLTrust):
        return 'fltrust', config.aggregation.public_clients
    name = registry.name_of(config.algorithm)
    if name in registry.BY_PUBLIC_EXAMPLES:
        return name, config.algorithm.public_clients
    return None

"""Clients whose examples are the server's own: who they are, where a run has some."""

import numpy as np

from tff_transfer import randomness
from tff_transfer.aggregation.trust import FLTrust
from tff_transfer.algorithms import registry
from tff_transfer.errors import UserError


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


def divided(config, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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

    A method whose public examples are those of a file has none.

    No aggregation that has some goes with a method that has.
    """
    if isinstance(config.aggregation, FLTrust):
        return 'fltrust', config.aggregation.public_clients
    name = registry.name_of(config.algorithm)
    of_file = getattr(config.algorithm, 'public_data', None)
    if name in registry.BY_PUBLIC_EXAMPLES and of_file is None:
        return name, config.algorithm.public_clients
    return None

"""The runs of the study: a defence, an attack, and how many attack."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

from tff_transfer.aggregation import registry as aggregation
from tff_transfer.attacks import registry as attacks
from tff_transfer.training.config import Config

DEFENCES = tuple(name for name in aggregation.KINDS.NAMES if name != 'secure')
# The share of a round's clients that defences are told to expect as attackers.
ASSUMED = 0.3
# What updates are clipped to: about as long as an honest one is in the first rounds, at
# the clients' rate of 0.1.
NORM = 1.0


@dataclasses.dataclass(frozen=True)
class Case:
    """One run.

    Attributes:
      defence: One of `DEFENCES`.
      attack: One of `attacks.registry`.
      share: The share of hostile clients.
    """

    defence: str
    attack: str = 'none'
    share: float = 0.0

    def __str__(self) -> str:
        return f'{self.defence}-{self.attack}-{self.share:g}'


def all_of(
    defences: Sequence[str], names: Sequence[str], shares: Sequence[float]
) -> list[Case]:
    """Returns the runs of some defences and attacks, each defence once without any."""
    found = []
    for defence in defences:
        found.append(Case(defence))
        found += [Case(defence, *it) for it in itertools.product(names, shares)]
    return found


def options_of(defence: str, clients: int) -> Any:
    """Returns the options of a defence for rounds of so many clients."""
    assumed = math.ceil(ASSUMED * clients)
    told = {
        'trimmedmean': {'trimmed': ASSUMED},
        'krum': {'attackers': assumed},
        'multikrum': {'attackers': assumed},
        'bulyan': {'attackers': min(assumed, (clients - 3) // 4)},
        'normclip': {'norm': NORM},
        'centredclipping': {'radius': NORM},
    }
    return aggregation.KINDS.options(defence)(**told.get(defence, {}))


def configured(config: Config, case: Case) -> Config:
    """Returns the configuration of one run; the server takes the aggregate itself."""
    training = dataclasses.replace(
        config.training,
        server_optimizer='sgd',
        server_learning_rate=1.0,
        weighting='uniform',
    )
    if case.attack != 'none':
        training = dataclasses.replace(training, attackers=case.share)
    return dataclasses.replace(
        config,
        training=training,
        aggregation=options_of(case.defence, training.clients_per_round),
        attack=attacks.KINDS.options(case.attack)(),
    )

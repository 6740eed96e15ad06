"""The options of training that say how clients and server take their steps."""

import dataclasses

from tff_transfer.algorithms import registry, schedules
from tff_transfer.options import all_but, option, repr_of_changed
from tff_transfer.training.rounds_config import STEPS

OPTIMIZERS = ('sgd', 'adagrad', 'adam', 'adamw', 'adafactor', 'rmsprop', 'yogi')

_WITH_EPSILON = ('adagrad', 'adam', 'adamw', 'rmsprop', 'yogi')
# What options are for (see `options.option`).
_SERVER = {'algorithm': registry.BY_SERVER_OPTIMIZER, **STEPS}


@dataclasses.dataclass(frozen=True)
class OptimizersConfig:
    """How clients and server take their steps: a part of `TrainingConfig`."""

    client_optimizer: str = option(
        'sgd',
        'The optimizer on the clients.',
        choices=OPTIMIZERS,
        only_for=all_but('algorithm', registry.NAMES, registry.BY_CLIENT_SGD),
    )
    client_learning_rate: float = option(0.01, 'Learning rate on the clients.', above=0)
    client_schedule: str = option(
        'constant',
        'How the learning rate on the clients changes with the round.',
        choices=schedules.NAMES,
    )
    client_warmup: int = option(
        0, 'Rounds in which the rate on the clients grows to its value.', at_least=0
    )
    client_momentum: float = option(
        0.0,
        'Momentum of sgd on the clients.',
        at_least=0,
        below=1,
        only_for={
            'client_optimizer': ('sgd',),
            **all_but('algorithm', registry.NAMES, ('scaffold',)),
        },
    )
    client_epsilon: float = option(
        1e-7,
        'Epsilon of adaptive optimizers on the clients.',
        above=0,
        only_for={'client_optimizer': _WITH_EPSILON},
    )
    server_optimizer: str = option(
        'adam',
        'The optimizer on the server.',
        choices=OPTIMIZERS,
        only_for=_SERVER,
    )
    server_learning_rate: float = option(
        0.02, 'Learning rate on the server.', above=0, only_for=_SERVER
    )
    server_schedule: str = option(
        'constant',
        'How the learning rate on the server changes with the round.',
        choices=schedules.NAMES,
        only_for=_SERVER,
    )
    server_warmup: int = option(
        0,
        'Rounds in which the rate on the server grows to its value.',
        at_least=0,
        only_for=_SERVER,
    )
    server_momentum: float = option(
        0.0,
        'Momentum of sgd on the server.',
        at_least=0,
        below=1,
        only_for={'server_optimizer': ('sgd',), **_SERVER},
    )
    server_epsilon: float = option(
        1e-4,
        'Epsilon of adaptive optimizers on the server: the larger, the less adaptive.',
        above=0,
        only_for={'server_optimizer': _WITH_EPSILON, **_SERVER},
    )

    __repr__ = repr_of_changed

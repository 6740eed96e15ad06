"""Rates chosen on validation clients, by a budget that is equal for all methods.

A trial trains with other rates on a part of the seen clients; those of them who are
held out, the validation clients, judge it. No example of an unseen client and no test
example is in its data. Trials are halved in turn (Jamieson and Talwalkar 2016,
"Non-stochastic best arm identification and hyperparameter optimization"; a quarter
goes on, as in Li et al. 2018, "Hyperband"): all of them for a part of the rounds, the
best for all rounds.
"""

import dataclasses
import functools
import math

import numpy as np

from tff_transfer.algorithms import registry
from tff_transfer.data import validation
from tff_transfer.data.federated import FederatedData, split_clients
from tff_transfer.errors import UserError
from tff_transfer.training import sources
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.result import Result

# The share of the seen clients who are held out, and of a rung's trials that go on.
VALIDATION, GO_ON = 0.2, 4
# Where rates, and options of methods that are sought beside them, are sought: between
# these, by their logarithm.
CLIENT_RATES = (0.003, 1.0)
ADAPTIVE_RATES = (0.003, 0.3)
# A server without an optimizer of its own takes the mean of the clients' weights, or
# steps by the mean of their gradients.
MEAN, GRADIENT_RATES = (1.0, 1.0), (0.03, 3.0)
OWN = {
    'fedavgm': {'learning_rate': (0.1, 1.0)},
    **dict.fromkeys(
        ('fedadagrad', 'fedadam', 'fedyogi', 'fedrmsprop'),
        {'learning_rate': ADAPTIVE_RATES},
    ),
    'fedprox': {'mu': (0.001, 1.0)},
    'feddyn': {'alpha': (0.001, 0.1)},
    **dict.fromkeys(('ditto', 'mrmtl'), {'lam': (0.01, 10.0)}),
}


def space(config: Config, given: set[str]) -> dict[str, tuple[float, float]]:
    """Returns what is sought for a configuration: the bounds of each flag.

    Args:
      config: The configuration.
      given: The flags that are given, which are kept.
    """
    name = registry.name_of(config.algorithm)
    found = {}
    if name not in registry.OF_ONE_ROUND:
        if name != 'fedsgd':  # Its clients send gradients, the rate is the server's.
            found['client_learning_rate'] = CLIENT_RATES
        if name in registry.BY_SERVER_OPTIMIZER:
            adaptive = config.training.server_optimizer != 'sgd'
            of_sgd = GRADIENT_RATES if name == 'fedsgd' else MEAN
            found['server_learning_rate'] = ADAPTIVE_RATES if adaptive else of_sgd
    own = OWN.get(name, {})
    found |= {f'{name}.{option}': bounds for option, bounds in own.items()}
    return {flag: bounds for flag, bounds in found.items() if flag not in given}


def points(bounds: dict[str, tuple[float, float]], count: int) -> list[dict]:
    """Returns the values that are tried, spread evenly whatever their number.

    The additive sequence R_d of Roberts 2018, "The unreasonable effectiveness of
    quasirandom sequences": of more points, the first ones stay the same.

    Args:
      bounds: The least and the greatest value of each flag; where these are the same,
        it is the value.
      count: How many.

    Returns:
      Values by flag, to three digits.
    """
    sought = {flag: it for flag, it in bounds.items() if it[0] < it[1]}
    if not sought:
        return []
    size, ratio = len(sought), 2.0
    for _ in range(64):  # To the root of ratio ** (size + 1) == ratio + 1.
        ratio = (1 + ratio) ** (1 / (size + 1))
    steps = ratio ** -np.arange(1, size + 1)
    places = (0.5 + np.arange(count)[:, None] * steps) % 1
    low, high = np.log(np.array([*sought.values()])).T
    values = np.exp(low + places * (high - low))
    fixed = {flag: least for flag, (least, _) in bounds.items()}
    return [
        fixed | {flag: float(f'{v:.3g}') for flag, v in zip(sought, row, strict=True)}
        for row in values
    ]


def rungs(budget: int, config: Config) -> list[tuple[int, int]]:
    """Returns how many trials train for how many rounds, one rung after another.

    Args:
      budget: The trials of the first rung.
      config: What is tried; where the effect of an option hangs on the number of
        rounds, no trial has fewer.
    """
    counts = [budget]
    while counts[-1] // GO_ON >= 2 and not config.by_rounds:
        counts.append(counts[-1] // GO_ON)
    rounds = config.training.rounds
    last = len(counts) - 1
    return [
        (count, max(math.ceil(rounds / GO_ON ** (last - rung)), 1))
        for rung, count in enumerate(counts)
    ]


def with_values(config: Config, values: dict[str, float]) -> Config:
    """Returns a configuration with other values of some flags."""
    own = {key.partition('.')[2]: it for key, it in values.items() if '.' in key}
    plain = {key: it for key, it in values.items() if '.' not in key}
    return dataclasses.replace(
        config,
        training=dataclasses.replace(config.training, **plain),
        algorithm=dataclasses.replace(config.algorithm, **own),
    )


def trial(config: Config, rounds: int, seen: int) -> Config:
    """Returns the configuration of a trial on the data of `data_of`.

    Args:
      config: What is tried.
      rounds: For how long.
      seen: The clients that are in these data.
    """
    name = registry.name_of(config.algorithm)
    changes = {'export': 'last', 'tflite': False, 'export_keras': False}
    changes |= {'early_stop_patience': None, 'export_client': ()}
    if name in registry.BY_OWN_MODELS:
        changes['baselines'] = False
    if name not in registry.OF_ONE_ROUND:
        changes |= {'rounds': rounds, 'evaluate_every': rounds}
    if name not in registry.OF_ALL:
        trained, _ = split_clients(seen, VALIDATION)
        clients = min(config.training.clients_per_round, len(trained))
        changes['clients_per_round'] = clients
    return dataclasses.replace(
        config,
        training=dataclasses.replace(config.training, **changes),
        data=DataConfig(unseen_fraction=VALIDATION, split_seed=config.data.split_seed),
    )


@functools.lru_cache(maxsize=2)
def data_of(config: DataConfig, model: ModelConfig) -> FederatedData:
    """Returns training examples of the seen clients, all that trials are made of.

    Some of each validation client's are its test examples there, for the methods whose
    clients adapt; those of the others all train.
    """
    named = Config(config, model)
    data = sources.load_data(named, sources.load_backbone(named))
    seen, _ = split_clients(len(data), config.unseen_fraction, config.split_seed)
    found = validation.held_out(
        data, seen, fraction=validation.HELD_OUT, seed=config.split_seed
    )
    trained, _ = split_clients(len(seen), VALIDATION, config.split_seed)
    tests = found.num_test.copy()
    tests[trained] = 0
    return dataclasses.replace(
        found, num_train=data.num_train[seen] - tests, num_test=tests
    )


def score(result: Result) -> float:
    """Returns the mean over validation clients of what decides; more is better.

    Raises:
      UserError: They have no examples to be judged by.
    """
    task = result.task
    found = result.rows[-1][f'unseen/{task.per_client}']
    if found is None:
        raise UserError(
            'validation clients have too few examples to be judged by after they adapt;'
            ' give rates and leave --tune out'
        )
    return found if task.highest else -found

"""The models that clients could have had instead of their own, beside these.

On the examples by which a run judges clients' own models: that of federated averaging
with the same flags (`global`), that of each client's examples `alone`, and that of all
seen clients' examples in one place (`central`). No test example decides anything:

- `global` is a run of its own, unless the run's shared model is that already. Where one
  round computes that of all examples, it is the central one too.
- `alone` is the start, fine-tuned by each client, unseen ones too, on its training
  examples: the clients' optimizer at its constant rate, for as many epochs as are best
  on held-out training examples.
- `central` takes passes of the clients' optimizer over all examples. What suits few
  steps of a client may be too high a rate for many: of the clients' rate and two lower
  ones the best on held-out training examples is taken, in runs of its own.

Neither computes more than the run does, where that converges: central training makes as
many passes as the run's clients make on average over their examples, and clients alone
so many epochs at most. But a run of many clients sees each of them a few times alone,
in which neither converges: so it is `_LEAST_PASSES` and `_LEAST_EPOCHS` at least.
"""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from tff_transfer import options, progress
from tff_transfer.algorithms import registry
from tff_transfer.algorithms.central import Central
from tff_transfer.algorithms.fed_avg import FedAvg
from tff_transfer.algorithms.fed_avg_ft import FedAvgFT
from tff_transfer.data import validation
from tff_transfer.errors import UserError
from tff_transfer.records import personalization, predictions, run_directory
from tff_transfer.records.personalization import ALONE, CENTRAL, GLOBAL, PERSONAL
from tff_transfer.records.predictions import Predictions
from tff_transfer.training import sizes
from tff_transfer.training.config import Config
from tff_transfer.training.evaluation import Evaluator, joined
from tff_transfer.training.result import Result
from tff_transfer.training.setup import Setup
from tff_transfer.training.stages import Stage
from tff_transfer.training.training_config import TrainingConfig

# Among which numbers of epochs of clients alone are chosen.
EPOCHS_ALONE = (1, 3, 10, 30, 100, 300)
_LEAST_PASSES, _LEAST_EPOCHS = 10, 30
# What the clients' learning rate is divided by for central training, one of these.
RATE_DIVISORS = (1, 4, 16)
# Clients alone that are judged at once.
_CLIENTS = 16

_Train = Callable[[Config, Setup, pathlib.Path | None, str], Result]


def wanted(config: Config) -> bool:
    """Returns whether a run gives baselines at its end.

    Not where something is promised of clients' data: baselines are trained without
    noise, and judged by seen clients too.
    """
    name = registry.name_of(config.algorithm)
    asked = config.training.baselines and not config.private
    return asked and name in registry.BY_OWN_MODELS


def check(config: Config, setup: Setup) -> None:
    """Checks that all examples in one place fit into memory.

    Raises:
      UserError: They do not.
    """
    if registry.name_of(config.algorithm) in registry.OF_ONE_ROUND:
        return  # Nothing is trained in one place.
    examples = setup.data.num_train[setup.seen]
    row = setup.transform(setup.data.x[:1]).nbytes
    of_all = of_central(config, len(examples)).training
    try:
        sizes.check_rounds(of_all, examples, row, setup.model.each_network, of_all=True)
    except UserError as error:
        raise UserError(
            f'central training, one of the baselines: {error}, or give --nobaselines'
        ) from error


def compare(config: Config, result: Result, train: _Train) -> Result:
    """Trains the baselines of a run, and compares its clients' own models with them.

    Args:
      config: The run's configuration, resolved.
      result: What the run came to.
      train: Trains a configuration in a setup and a run directory, if any, and shows
        how far it is under a name.

    Returns:
      The result, with `personalization`.
    """
    setup, judged = result.setup, result.predictions
    name = registry.name_of(config.algorithm)
    shared = with_statistics(setup, local=False)

    def trained(chosen: Config, said: str) -> Mapping[str, Predictions]:
        with contextlib.ExitStack() as stack:
            place = result.run_dir
            if place is not None:
                place = place / 'baselines' / registry.name_of(chosen.algorithm)
                stack.enter_context(run_directory.opened(place, chosen))
            found = train(chosen, shared, place, said).predictions
        # One model for all was evaluated on what others adapt on too.
        return {part: found[part].of_rows(those.rows) for part, those in judged.items()}

    if name in registry.WITH_GLOBAL_MODEL and shared is setup:
        of_global = _of_weights(setup, result.weights, judged)
    else:
        of_global = trained(of_fedavg(config), 'global model')
    if name in registry.OF_ONE_ROUND:
        of_all = of_global
        said = dict.fromkeys((GLOBAL, CENTRAL), 'one round of all seen clients')
    else:
        central = _at_best_rate(of_central(config, len(setup.seen)), shared, train)
        of_all = trained(central, 'central model')
        rate = central.training.client_learning_rate
        passes = f'{central.training.rounds} passes at rate {rate:g}'
        said = {
            GLOBAL: 'federated averaging with the same flags',
            CENTRAL: f'all examples of seen clients in one place, {passes}',
        }
    alone, epochs = _alone(
        of_alone(config, len(setup.seen)), with_statistics(setup, local=True), judged
    )
    said[ALONE] = f'each client alone, {epochs} epochs, chosen on held-out examples'
    said[PERSONAL] = f'{name}, the run itself'
    found = {GLOBAL: of_global, ALONE: alone, CENTRAL: of_all, PERSONAL: judged}
    compared = personalization.compare(setup.data, setup.model.task, found, said)
    return dataclasses.replace(result, personalization=compared)


def of_fedavg(config: Config) -> Config:
    """Returns federated averaging with a run's flags, as far as it takes them."""
    return _with(config, FedAvg())


def of_central(config: Config, clients: int) -> Config:
    """Returns central training for a run of so many seen clients.

    A round is one pass; more rounds of the run never give fewer.
    """
    training, head = config.training, config.model.head_rounds
    of_all = training.rounds - (head or 0)
    before = 0
    if head is not None:
        before = max(_passes(training, head, clients), _LEAST_PASSES)
    after = max(_passes(training, of_all, clients), _LEAST_PASSES)
    training = dataclasses.replace(
        training,
        rounds=before + after,
        client_epochs=1,
        client_warmup=_passes(training, training.client_warmup, clients),
        checkpoint_every=1,
        export='last',
        early_stop_patience=None,
    )
    model = dataclasses.replace(config.model, head_rounds=head and before)
    return _with(dataclasses.replace(config, model=model, training=training), Central())


def _at_best_rate(config: Config, setup: Setup, train: _Train) -> Config:
    """Returns central training at the rate that is best on held-out examples."""
    inside, training = _held_out(setup, config.training.seed), config.training
    if not inside.data.num_test.any():
        return config
    tried, found = [], []
    for divisor in RATE_DIVISORS:
        rate = training.client_learning_rate / divisor
        of_rate = dataclasses.replace(training, client_learning_rate=rate)
        tried.append(dataclasses.replace(config, training=of_rate))
        result = train(tried[-1], inside, None, f'central model, rate {rate:g}')
        found.append(result.rows[-1][f'seen/{setup.model.task.decides}'])
    return tried[setup.model.task.best(found)]


def _held_out(setup: Setup, seed: int) -> Setup:
    """Returns the seen clients alone, judged by a part of their training examples."""
    data = validation.held_out(
        setup.data, setup.seen, fraction=validation.HELD_OUT, seed=seed
    )
    return dataclasses.replace(
        setup,
        data=data,
        seen=np.arange(len(data)),
        unseen=np.zeros(0, np.int64),
        first=setup.first and _held_out(setup.first, seed),
    )


def of_alone(config: Config, clients: int) -> Config:
    """Returns fine-tuning by each client, for a run of so many seen ones."""
    training = config.training
    most = _LEAST_EPOCHS
    if registry.name_of(config.algorithm) not in registry.OF_ONE_ROUND:
        most = max(most, _passes(training, training.rounds, clients))
    training = dataclasses.replace(
        training,
        adaptation_epochs=tuple(epochs for epochs in EPOCHS_ALONE if epochs <= most),
        client_schedule='constant',
        client_warmup=0,
    )
    return _with(dataclasses.replace(config, training=training), FedAvgFT())


def _passes(training: TrainingConfig, rounds: int, clients: int) -> int:
    """Returns how often rounds meet each example on average, at most, rounded up."""
    in_round = training.client_epochs * training.clients_per_round / clients
    return math.ceil(rounds * in_round)


def _with(config: Config, algorithm) -> Config:
    """Returns a configuration of another method, without what it does not take."""
    model = config.model
    if model.batch_norm == 'local':  # One model for all, where clients train one.
        model = dataclasses.replace(model, batch_norm='aggregate')
    training = dataclasses.replace(
        config.training, tflite=False, export_keras=False, export_client=()
    )
    data, model, training = options.in_effect(
        config.data,
        model,
        training,
        algorithm=registry.name_of(algorithm),
        fleet='ideal',
        timing='synchronous',
    )
    return Config(data, model, training, algorithm)


def with_statistics(setup: Setup, *, local: bool) -> Setup:
    """Returns a setup whose BatchNorm, if it is trained, is each client's own or not.

    One model for all clients has their statistics together; a client that trains alone
    has its own.
    """
    statistics = setup.model.statistics
    if statistics is None or statistics.local == local:
        return setup
    statistics = dataclasses.replace(statistics, local=local)
    model = dataclasses.replace(setup.model, statistics=statistics)
    return dataclasses.replace(setup, model=model)


def _of_weights(
    setup: Setup, weights, judged: Mapping[str, Predictions]
) -> dict[str, Predictions]:
    """Returns what one model for all clients predicts."""
    evaluator = Evaluator(setup.model, setup.data, setup.transform)
    return {
        part: predictions.of_examples(
            setup.data, those.rows, evaluator.per_example(weights, those.rows)
        )
        for part, those in judged.items()
    }


def _alone(
    config: Config, setup: Setup, judged: Mapping[str, Predictions]
) -> tuple[dict[str, Predictions], int]:
    """Returns what each client's model alone predicts, and its number of epochs."""
    stage = Stage(config, setup, range(1, 1))
    state, found = stage.initialize(), {}
    data, task = setup.data, setup.model.task
    clients = sum(len(np.unique(data.client_of_row[j.rows])) for j in judged.values())
    with progress.bar(total=clients, desc='clients alone', unit='client') as bar:
        epochs = stage.adaptation_epochs(state)
        for part, those in judged.items():
            measured = []
            for some in _by_clients(data.client_of_row[those.rows]):
                measured.append(stage.per_example(state, those.rows[some]))
                bar.update(len(np.unique(data.client_of_row[those.rows[some]])))
            found[part] = predictions.of_examples(
                data, those.rows, joined(task, measured)
            )
    return found, epochs


def _by_clients(holders: np.ndarray) -> list[slice]:
    """Returns slices of rows, `_CLIENTS` clients each, of the clients that hold them.

    Rows of a client stand together.
    """
    starts = np.flatnonzero(np.diff(holders, prepend=-1))[::_CLIENTS]
    ends = [*starts[1:], len(holders)]
    return [slice(a, b) for a, b in zip(starts, ends, strict=True)]

"""Many runs of one configuration, each on half of the clients: who was in which?"""

import dataclasses

import numpy as np

from tff_transfer import progress, randomness
from tff_transfer.audit import membership
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.training.config import Config
from tff_transfer.training.evaluation import Evaluator
from tff_transfer.training.runtimes import use_runtime
from tff_transfer.training.setup import Setup
from tff_transfer.training.stages import Stage

# Fewer leave too few models with and without a client (`membership.lira`).
LEAST = 8


@dataclasses.dataclass(frozen=True)
class Shadows:
    """What the models of several runs say.

    Attributes:
      losses: Of each training example of the clients that might have trained, float32
        [runs, rows].
      client_of_row: Whose it is, the place of the client among them, int64 [rows].
      members: Whether a run trained on a client, bool [runs, clients].
      accuracy: On clients who train in no run, float64 [runs]; of none, NaN.
    """

    losses: np.ndarray
    client_of_row: np.ndarray
    members: np.ndarray
    accuracy: np.ndarray

    def attacks(self) -> dict[tuple[str, str], membership.Attack]:
        """Returns how well each attack does, by what is attacked and how.

        Raises:
          UserError: There are too few runs.
        """
        of_examples = membership.signals(self.losses)
        count = np.bincount(self.client_of_row)
        of_clients = np.stack(
            [np.bincount(self.client_of_row, run) / count for run in of_examples]
        )
        units = {
            'client': (of_clients, self.members),
            'example': (of_examples, self.members[:, self.client_of_row]),
        }
        found = {}
        for unit, (signals, members) in units.items():
            # Of clients the mean of the log odds stands for the mean loss.
            found[unit, 'threshold'] = membership.attack(signals, members)
            scores = membership.lira(signals, members)
            found[unit, 'LiRA'] = membership.attack(scores, members)
        return found


def halves(clients: int, runs: int, seed: int) -> np.ndarray:
    """Returns which clients train in which run, bool [runs, clients].

    Of each two runs the second one has those that the first one leaves, so that each
    client is in half of the runs.

    Args:
      clients: How many there are, an even number.
      runs: How many runs, an even number.
      seed: The seed.
    """
    draw, found = randomness.generator(seed, 'halves'), []
    for _ in range(runs // 2):
        half = np.zeros(clients, bool)
        half[draw.permutation(clients)[: clients // 2]] = True
        found += [half, ~half]
    return np.stack(found)


def targets(config: Config, setup: Setup) -> np.ndarray:
    """Returns the clients that are attacked, who each train in half of the runs.

    They are those who have training examples; of an odd number all but the last.

    Args:
      config: The configuration.
      setup: What it trains.

    Raises:
      UserError: There are too few.
    """
    clients = setup.seen[setup.data.num_train[setup.seen] > 0]
    half, cohort = len(clients) // 2, config.training.clients_per_round
    if cohort > half:
        raise UserError(
            f'each shadow run trains on {half} of {len(clients)} clients, but'
            f' --clients_per_round={cohort}; give at most that'
        )
    return clients[: 2 * half]


def trained(config: Config, setup: Setup, runs: int) -> Shadows:
    """Trains the shadow models, by one process that is made once.

    Args:
      config: The configuration, resolved.
      setup: What it trains.
      runs: How many models there are, an even number.

    Raises:
      UserError: There are too few clients.
    """
    data, everyone = setup.data, targets(config, setup)
    members = halves(len(everyone), runs, config.training.seed)
    rows = _train_rows(data, everyone)
    unseen = np.flatnonzero(np.isin(data.client_of_row, setup.unseen))
    evaluator = Evaluator(setup.model, data, setup.transform)
    first = dataclasses.replace(setup, seen=everyone[members[0]])
    stage = Stage(config, first, range(1, config.training.rounds + 1))
    losses, accuracy = [], []
    for run in progress.bar(range(runs), desc='shadow runs', unit='run'):
        seed = int(
            randomness.generator(config.training.seed, 'run', run).integers(2**62)
        )
        training = dataclasses.replace(config.training, seed=seed)
        again = stage.repeated(everyone[members[run]], seed)
        with use_runtime(training):
            weights = _weights(again)
        losses.append(evaluator.per_example(weights, rows)['loss'])
        found = evaluator.per_example(weights, unseen)
        judged = found[setup.model.task.decides]
        accuracy.append(judged.mean() if len(judged) else np.nan)
    return Shadows(
        np.stack(losses),
        np.searchsorted(everyone, data.client_of_row[rows]),
        members,
        np.array(accuracy),
    )


def _weights(stage: Stage) -> list[np.ndarray]:
    """Runs the rounds of a stage; returns the weights at the end."""
    state = stage.initialize()
    for number in stage.rounds:
        state, _ = stage.next(state, number)
    return stage.weights(state)


def _train_rows(data: FederatedData, clients: np.ndarray) -> np.ndarray:
    return np.flatnonzero(data.is_train & np.isin(data.client_of_row, clients))

"""From pretrained weights server optimizers differ less than from random ones.

Nguyen et al. 2023, "Where to begin? On the impact of pre-training and initialization
in federated learning", section 4. Here the EMNIST network is pretrained in one place
on drawn digits, and all of it is trained on the digits of real writers.

  python -m experiments.claims.pretrained_start --data_path=handwriting_by_writer.npz \\
      --output=pretrained_start.png
"""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from absl import flags

import tff_transfer as tt
from experiments.claims import rounds as rounds_of
from experiments.claims import study
from tff_transfer import randomness
from tff_transfer.data import by_client, federated, synthetic_writers
from tff_transfer.data.federated import FederatedData
from tff_transfer.models import Model
from tff_transfer.records import plots
from tff_transfer.training.evaluation import Evaluator

# The network reads digits of this size.
SHAPE = (28, 28, 1)
# Drawn writers, of 100 digits each, to pretrain with.
DRAWN = 100
CLIENT_RATE = 0.05
# Rounds between evaluations, and the most examples of each.
EVERY, EXAMPLES = 5, 1000


class Server(NamedTuple):
    """A server optimizer: a method of the server's rate, and the rates to try."""

    method: Callable
    rates: tuple[float, ...]


SERVERS = {
    'FedAvg': Server(lambda rate: tt.algorithms.FedAvg(), (1.0,)),
    'FedAvgM': Server(lambda rate: tt.algorithms.FedAvgM(rate), (0.3, 1.0)),
    'FedAdam': Server(lambda rate: tt.algorithms.FedAdam(rate), (0.003, 0.01)),
}


def pretrained(seed: int) -> Model:
    """Makes the network and trains it on drawn digits, two epochs of Adam."""
    data = synthetic_writers.generate(DRAWN, 100, seed=seed, classes=10)
    network = tt.models.cnn(SHAPE, 10, seed=seed, dtype=data.x.dtype).network
    tf.keras.utils.set_random_seed(seed)
    network.compile(
        'adam', tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    network.fit(data.x, data.y, batch_size=50, epochs=2, verbose=0)
    return tt.models.from_keras(network)


STARTS = {
    'random': lambda seed: tt.models.cnn(SHAPE, 10, seed=seed, dtype=np.uint8),
    'pretrained': pretrained,
}


class Curve(NamedTuple):
    """Accuracies in one run, from the start on, every `EVERY` rounds."""

    seen: list[float]
    unseen: list[float]


class Trials:
    """Runs on some writers, from any start and by any method, each done once.

    Args:
      data: The writers.
      rounds: How many rounds a run has.
    """

    def __init__(self, data: FederatedData, rounds: int):
        self._data, self._rounds = data, rounds
        self.start = functools.cache(lambda name, seed: STARTS[name](seed))
        self.run = functools.cache(self._run)

    def _run(self, start: str, name: str, rate: float, seed: int) -> Curve:
        """Trains with a rate of the server."""
        model = self.start(start, seed)
        made = tt.algorithms.process(
            SERVERS[name].method(rate),
            model,
            client_optimizer=tff.learning.optimizers.build_sgdm(CLIENT_RATE),
        )
        data = self._data
        seen, unseen = federated.split_clients(len(data), split_seed=seed)
        of_unseen = np.isin(data.client_of_row, unseen)
        draw = randomness.generator(seed, 'claim of a pretrained start')
        rows = [
            draw.permutation(np.flatnonzero(some))[:EXAMPLES]
            for some in (~of_unseen & ~data.is_train, of_unseen)
        ]
        evaluator = Evaluator(model, data, lambda x: x)

        def accuracies(weights):
            for some in rows:
                yield float(np.mean(evaluator.per_example(weights, some)['accuracy']))

        states = rounds_of.states(
            made, data, seen, chosen=10, epochs=1, batch_size=20, seed=seed
        )
        evaluated = itertools.islice(states, EVERY - 1, self._rounds, EVERY)
        weights = [model.initial_weights, *(s.server.weights for s in evaluated)]
        return Curve(*zip(*map(accuracies, weights), strict=True))

    def best_rate(self, start: str, name: str, seed: int) -> float:
        """Returns the server's rate that is best on test examples of writers seen."""
        return max(
            SERVERS[name].rates,
            key=lambda rate: self.run(start, name, rate, seed).seen[-1],
        )


def measure(data: FederatedData, seeds: list[int], rounds: int) -> study.Found:
    """Returns the accuracy on unseen writers by start and server optimizer."""
    trials = Trials(data, rounds)
    table = [['start', 'before', *SERVERS, 'most minus least', 'server rates']]
    curves = {}
    for start in STARTS:
        told, chosen = {}, []
        for name in SERVERS:
            rate = trials.best_rate(start, name, seeds[0])
            chosen.append(f'{rate:g}')
            told[name] = [trials.run(start, name, rate, s).unseen for s in seeds]
            curve = told[name][0]
            curves[f'{start}, {name}'] = [
                (EVERY * i, accuracy) for i, accuracy in enumerate(curve)
            ]
        ends = [[run[-1] for run in runs] for runs in told.values()]
        before = [run[0] for run in told['FedAvg']]
        gaps = np.max(ends, axis=0) - np.min(ends, axis=0)
        cells = map(study.spread, (before, *ends, gaps))
        table.append([start, *cells, ', '.join(chosen)])
        print('  '.join(table[-1]), flush=True)
    return study.Found(table, plots.compared(curves, 'accuracy on unseen writers'))


if __name__ == '__main__':
    flags.DEFINE_string('data_path', None, 'Digits by client.', required=True)
    tt.runtime.use_compiled()
    study.run(
        lambda *sizes: measure(by_client.load(flags.FLAGS.data_path), *sizes),
        rounds=20,
        seeds=2,
    )

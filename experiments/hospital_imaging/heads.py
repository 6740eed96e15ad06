"""Heads on features: trained by one hospital or several, from any start."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import numpy as np
import scipy.special
import tensorflow_federated as tff

import tff_transfer as tt
from experiments.claims import rounds as rounds_of
from tff_transfer.algorithms.compose import Composed
from tff_transfer.data.federated import FederatedData
from tff_transfer.features import Standardisation
from tff_transfer.models import Model

HIDDEN, DROPOUT = 256, 0.5
BATCH = 32
# Rates of SGD that are tried, the most rounds (of one epoch for each hospital that
# takes part), and how many go by without a lower loss on validation examples.
RATES = (0.01, 0.03, 0.1)
ROUNDS, PATIENCE = 40, 5


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    """What stands on a frozen backbone: features, 256 units of ReLU, two logits.

    Attributes:
      standardise: What is done to features first: of one deviation for all of them,
        since some hardly differ between one hospital's images.
      weights: Kernels and biases, float32 [features, 256], [256], [256, 2], [2].
    """

    standardise: Standardisation
    weights: Sequence[np.ndarray]

    def hidden(self, features: np.ndarray) -> np.ndarray:
        """Returns what the last layer takes, without dropout, float32 [n, 256]."""
        kernel, bias = self.weights[:2]
        return np.maximum(self.standardise(features) @ kernel + bias, 0)

    def probabilities(self, features: np.ndarray) -> np.ndarray:
        """Returns the probabilities of label 1, float32 [n]."""
        logits = _logits(self.weights[2:], self.hidden(features))
        return scipy.special.softmax(logits, axis=1)[:, 1]


@dataclasses.dataclass(frozen=True)
class Trained:
    """What training came to.

    Attributes:
      weights: Those of the round that is best on validation examples.
      loss: The mean cross-entropy on these.
      rate: The rate of the clients' SGD.
      rounds: That round; 0 is the start.
    """

    weights: tuple[np.ndarray, ...]
    loss: float
    rate: float
    rounds: int


def new_head(features: int, seed: int) -> list[np.ndarray]:
    """Returns random weights of a head on so many features."""
    return tt.models.mlp((features,), 2, (HIDDEN,), DROPOUT, seed).initial_weights


def new_last_layer() -> list[np.ndarray]:
    """Returns the weights, 0, of a last layer alone, on a head's hidden units."""
    return [np.zeros((HIDDEN, 2), np.float32), np.zeros(2, np.float32)]


def train(
    start: Sequence[np.ndarray],
    data: FederatedData,
    clients: Sequence[int],
    *,
    seed: int,
) -> Trained:
    """Trains by federated averaging; of one client alone that is plain SGD.

    Clients count by their examples. All take part in each round. The rate, and the
    round that is kept, are those of the lowest loss on their validation examples.

    Args:
      start: The weights to start from, of a head or of a last layer alone.
      data: What these take, by client; test examples are those for validation.
      clients: The numbers of those that take part.
      seed: The seed of batches and dropout.
    """
    found = [_by_rate(start, data, clients, rate, seed) for rate in RATES]
    return min(found, key=lambda trained: trained.loss)


def _by_rate(start, data, clients, rate, seed) -> Trained:
    model, process = _made(data.x.shape[1], len(start), rate)
    rows = np.concatenate([np.r_[data.test_rows(client)] for client in clients])
    x, y = data.x[rows], data.y[rows]

    def trained(number, weights) -> Trained:
        weights = tuple(map(np.asarray, weights))
        logs = scipy.special.log_softmax(_logits(weights, x), axis=1)
        loss = -float(np.mean(logs[np.arange(len(y)), y]))
        return Trained(weights, loss, rate, number)

    states = rounds_of.states(
        process,
        data,
        clients,
        chosen=len(clients),
        epochs=1,
        batch_size=BATCH,
        seed=seed,
        start=start,
        keys=model.takes_keys,
    )
    best = trained(0, start)
    for number, state in enumerate(itertools.islice(states, ROUNDS), 1):
        now = trained(number, state.server.weights)
        if now.loss < best.loss:
            best = now
        if number - best.rounds >= PATIENCE:
            break
    return best


def _logits(weights: Sequence[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Returns logits, float32 [n, 2], of a head or of a last layer alone."""
    *hidden, kernel, bias = weights
    if hidden:
        x = np.maximum(x @ hidden[0] + hidden[1], 0)
    return x @ kernel + bias


@functools.cache
def _made(inputs: int, arrays: int, rate: float) -> tuple[Model, Composed]:
    """Makes model and process once for weights of a kind and a rate."""
    hidden = (HIDDEN,) if arrays > 2 else ()
    model = tt.models.mlp((inputs,), 2, hidden, DROPOUT if hidden else 0.0)
    sgd = tff.learning.optimizers.build_sgdm(rate)
    return model, tt.algorithms.process(
        tt.algorithms.FedAvg(), model, client_optimizer=sgd
    )

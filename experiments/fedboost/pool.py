"""Base predictors, trained beforehand: heads on what networks make of an image.

One on the features of each backbone, and one on each of two cuts of it (activations,
their mean over places), by federated averaging over the clients of before; and heads
of single clients of theirs on the first backbone's features. A predictor is sent as
the network below its head and the head.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow_federated as tff
from scipy import special

import tff_transfer as tt
from experiments.claims import rounds
from experiments.fedboost.people import Groups
from tff_transfer import features
from tff_transfer.algorithms import processes
from tff_transfer.backbones import Backbone
from tff_transfer.data.federated import FederatedData
from tff_transfer.models import finetuning

# Rounds, clients and rate of the heads' training; batches of 20.
ROUNDS, COHORT, RATE = 100, 20, 0.03
# Heads of single clients.
OWN = 6
# Where backbones are cut: shares of the layers with kernels that stand above.
_CUTS = (1 / 3, 2 / 3)
_NUMBER = 4


class Source(NamedTuple):
    """What heads stand on.

    Attributes:
      name: For tables.
      vectors: Makes them of data, float32 [n, size].
      bytes: Of the network, float32.
    """

    name: str
    vectors: Callable[[FederatedData], np.ndarray]
    bytes: int


@dataclasses.dataclass(frozen=True, eq=False)
class Pool:
    """Base predictors and what they answer.

    Attributes:
      names: Theirs, q of them.
      bytes: Of each, network and head, int64 [q].
      answers: Probabilities of all examples, float32 [n, q, classes].
    """

    names: tuple[str, ...]
    bytes: np.ndarray
    answers: np.ndarray


def sources(data: FederatedData, handles: Sequence[str]) -> list[Source]:
    """Returns what heads stand on: of vectors, these themselves.

    Args:
      data: The population.
      handles: Backbones by handle, for images.

    Raises:
      UserError: A backbone cannot be had or cut.
    """
    if data.x.ndim == 2:
        return [Source('inputs', lambda data: data.x, 0)]
    found = []
    for handle in handles:
        backbone = tt.backbones.load(handle)
        found.append(
            Source(
                backbone.name,
                lambda data, backbone=backbone: features.extract(backbone, data),
                _bytes(backbone),
            )
        )
        layers = sum(w.trainable and w.value.ndim > 1 for w in _weights(backbone))
        for share in _CUTS:
            above = max(1, round(share * layers))
            below, _, _ = finetuning.cut(backbone, top_layers=above)
            found.append(
                Source(
                    f'{backbone.name}, {above} of {layers} layers cut off',
                    lambda data, below=below: features.extract(
                        below, data, pooled=True
                    ),
                    _bytes(below),
                )
            )
    return found


def _weights(backbone: Backbone):
    return backbone.functional.weights


def _bytes(backbone: Backbone) -> int:
    return _NUMBER * sum(weight.value.size for weight in _weights(backbone))


def scaled(
    source: Source, data: FederatedData, clients: Sequence[int]
) -> FederatedData:
    """Returns data with standardised vectors, by moments of some clients."""
    on = data.with_x(np.asarray(source.vectors(data)))
    return on.with_x(features.standardisation(on, clients)(on.x))


def made(data: FederatedData, found: Sequence[Source], groups: Groups) -> Pool:
    """Trains all base predictors, on the current runtime.

    Args:
      data: The population.
      found: What heads stand on.
      groups: Whose examples train them.
    """
    names, sizes, answers = [], [], []

    def add(name: str, source: Source, on: FederatedData, clients) -> None:
        kernel, bias = _head(on, clients)
        names.append(name)
        sizes.append(source.bytes + _NUMBER * (kernel.size + bias.size))
        logits = on.x @ kernel + bias
        answers.append(special.softmax(logits, 1).astype(np.float32))

    for number, source in enumerate(found):
        on = scaled(source, data, groups.before)
        add(source.name, source, on, groups.before)
        if not number:
            for client in groups.before[:OWN]:
                name = f'client {data.client_ids[client]} alone, {source.name}'
                add(name, source, on, [client])
    return Pool(tuple(names), np.array(sizes), np.stack(answers, 1))


def _head(on: FederatedData, clients: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Trains a linear head by federated averaging; returns kernel and bias."""
    model = tt.models.mlp(on.x.shape[1:], on.num_classes)
    process = processes.process(
        tt.algorithms.FedAvg(),
        model,
        client_optimizer=tff.learning.optimizers.build_sgdm(RATE),
    )
    states = rounds.states(
        process,
        on,
        clients,
        chosen=min(COHORT, len(clients)),
        epochs=1,
        batch_size=20,
        seed=0,
    )
    *_, last = itertools.islice(states, ROUNDS)
    return tuple(map(np.asarray, last.server.weights))

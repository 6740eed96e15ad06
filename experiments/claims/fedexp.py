"""FedExP on overparametrised linear regression: fewer rounds than FedAvg.

Jhunjhunwala et al. 2023, "FedExP: Speeding up federated averaging via extrapolation",
section 6: 20 clients with 30 equations each for 1,000 unknowns.

  python -m experiments.claims.fedexp --output=fedexp.png
"""

import collections
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

import tff_transfer as tt
from experiments.claims import study
from tff_transfer import randomness, runtime
from tff_transfer.data.cohorts import Cohort
from tff_transfer.records import plots

CLIENTS, EQUATIONS, UNKNOWNS = 20, 30, 1000
STEPS, RATE = 20, 0.1
SERVER_RATES = (1, 2, 4, 8, 16)
TARGETS = (1e-2, 1e-4)


def regression(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws the clients' equations, which have solutions in common.

    Returns:
      x, float32 [clients, equations, unknowns], whose rows have norm 1, and y, float32
      [clients, equations], of norm 1 for each client.
    """
    draw = randomness.generator(seed, 'claim of FedExP')
    center, weights = (
        draw.normal(draw.normal(0, 0.1, [CLIENTS, 1]), 1, [CLIENTS, UNKNOWNS])
        for _ in range(2)
    )
    x = draw.normal(center[:, None], 1, [CLIENTS, EQUATIONS, UNKNOWNS])
    y = np.einsum('ceu,cu->ce', x, weights)
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    return x.astype(np.float32), y.astype(np.float32)


def model() -> tff.learning.models.FunctionalModel:
    """Makes a linear model without intercept, from 0; its loss is half the squares."""
    return tff.learning.models.FunctionalModel(
        initial_weights=((np.zeros(UNKNOWNS, np.float32),), ()),
        predict_on_batch_fn=tf.function(
            lambda weights, x, training: tf.linalg.matvec(x, weights[0][0])
        ),
        loss_fn=lambda output, y, sample_weight=None: tf.nn.l2_loss(output - y),
        input_spec=collections.OrderedDict(
            x=tf.TensorSpec([None, UNKNOWNS]), y=tf.TensorSpec([None])
        ),
    )


def iterates(options, server_rate: float, x: np.ndarray, y: np.ndarray) -> Iterator:
    """Trains for ever, all clients by full gradients in each round.

    Yields:
      Before each round the server's weights, and those that are evaluated.
    """
    sgd = tff.learning.optimizers.build_sgdm
    process = tt.algorithms.process(
        options,
        model(),
        client_optimizer=sgd(RATE),
        server_optimizer=sgd(server_rate),
    ).process
    rows = np.tile(np.arange(x.size // UNKNOWNS).reshape(CLIENTS, -1), STEPS).ravel()
    cohort = Cohort(
        collections.OrderedDict(x=x.reshape(-1, UNKNOWNS)[rows], y=y.ravel()[rows]),
        np.arange(CLIENTS + 1) * STEPS * EQUATIONS,
        EQUATIONS,
    )
    state = process.initialize()
    while True:
        (evaluated,) = process.get_model_weights(state).trainable
        yield state.server.weights[0], evaluated
        state = process.next(state, cohort).state


def losses(x: np.ndarray, y: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the mean over clients of their squared errors, [iterates]."""
    errors = np.einsum('ceu,iu->ice', x, np.stack(weights)) - y
    return np.square(errors).sum(axis=2).mean(axis=1)


def server_rates(x: np.ndarray, y: np.ndarray, weights: Sequence) -> np.ndarray:
    """Returns how far each step went, in lengths of the clients' mean update."""
    rates = []
    for before, after in itertools.pairwise(weights):
        moved = np.tile(before, [CLIENTS, 1])
        for _ in range(STEPS):
            errors = np.einsum('ceu,cu->ce', x, moved) - y
            moved -= RATE * np.einsum('ceu,ce->cu', x, errors)
        update = np.mean(moved, axis=0) - before
        rates.append(np.linalg.norm(after - before) / np.linalg.norm(update))
    return np.array(rates)


def measure(seeds: list[int], rounds: int) -> study.Found:
    """Returns the rounds in which each method reaches a loss, and what FedExP did."""
    runs = [('FedExP', tt.algorithms.FedExP(epsilon=0.0), 1)]
    runs += [
        (f'FedAvg, server rate {rate}', tt.algorithms.FedAvg(), rate)
        for rate in SERVER_RATES
    ]
    table = [
        [
            '',
            *(f'rounds to {t:g} of the start' for t in TARGETS),
            'server rate',
        ]
    ]
    curves = {}
    for name, options, rate in runs:
        needed, rates = [], []
        for seed in seeds:
            x, y = regression(seed)
            weights, evaluated = zip(
                *itertools.islice(iterates(options, rate, x, y), rounds + 1),
                strict=True,
            )
            loss = losses(x, y, evaluated)
            needed.append([study.first(loss <= t * loss[0]) for t in TARGETS])
            if name == 'FedExP':
                rates.append(server_rates(x, y, weights))
            curves.setdefault(name, list(enumerate(loss.tolist())))
        told = f'{np.min(rates):.1f} to {np.max(rates):.1f}' if rates else str(rate)
        needed = [study.rounds_needed(n, rounds) for n in zip(*needed, strict=True)]
        table.append([name, *needed, told])
    figure = plots.compared(curves, 'training loss')
    figure.axes[0].set(yscale='log', ylim=(1e-8, 10))
    return study.Found(table, figure)


if __name__ == '__main__':
    runtime.use_compiled()
    study.run(measure, rounds=200, seeds=3)

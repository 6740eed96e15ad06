"""FedBoost on the base predictors: by number sent, sampling and gradient."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import numpy as np
from scipy import optimize

from experiments import pieces
from experiments.fedboost.pool import Pool
from tff_transfer.boosting import fed_boost, gradients, simplex
from tff_transfer.boosting.examples import Examples
from tff_transfer.boosting.fed_boost import FedBoost, Task

# Steps that are tried with the first seed; the one that is best at choosers stays.
RATES = (0.1, 0.3, 1.0, 3.0)
SENT = (1, 2, 4)
COHORT = 20
# Rounds between figures, and between checkpoints.
EVERY, CHECKPOINTS = 5, 100


@dataclasses.dataclass(frozen=True, eq=False)
class Setting:
    """What ensembles are learnt from and judged by.

    Attributes:
      pool: The base predictors.
      learners: Those who learn; answers as `x`, [n, q, classes].
      choosers: Those by whom rates are chosen.
      unseen: Those who judge.
      rounds: Rounds of a run.
      folder: Where pieces are.
    """

    pool: Pool
    learners: Examples
    choosers: Examples
    unseen: Examples
    rounds: int
    folder: pathlib.Path

    @functools.cached_property
    def best(self) -> tuple[np.ndarray, float]:
        """The weights of the least squared loss of learners, and that loss."""
        moments = moments_of(self.learners)
        found = optimize.minimize(
            squared_loss,
            simplex.uniform(len(self.pool.names)),
            (moments,),
            bounds=[(0, 1)] * len(self.pool.names),
            constraints={'type': 'eq', 'fun': lambda weights: weights.sum() - 1},
            options={'maxiter': 1000, 'ftol': 1e-12},
        )
        return found.x, float(found.fun)


def moments_of(of: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Returns `gradients.moments` of all examples."""
    return gradients.moments(np.moveaxis(of.x, 1, 0), of.y)


def squared_loss(weights: np.ndarray, moments: tuple[np.ndarray, np.ndarray]) -> float:
    """Returns the squared loss of an ensemble by its moments."""
    inner, right = moments
    return float(weights @ inner @ weights - 2 * weights @ right + 1)


def accuracy(weights: np.ndarray, of: Examples) -> float:
    """Returns the share of examples that an ensemble gets right."""
    mixed = np.einsum('k,nkc->nc', weights, of.x)
    return float(np.mean(np.argmax(mixed, 1) == of.y))


def worst_tenth(weights: np.ndarray, of: Examples) -> float:
    """Returns the mean accuracy of the tenth of the clients who have the lowest."""
    mixed = np.einsum('k,nkc->nc', weights, of.x)
    right = np.bincount(of.client_of_row, np.argmax(mixed, 1) == of.y, len(of))
    by_client = np.sort(right[of.sizes > 0] / of.sizes[of.sizes > 0])
    return float(by_client[: max(1, len(by_client) // 10)].mean())


def variants(predictors: int) -> dict[str, FedBoost]:
    """Returns the runs to make, by name.

    By unbiased gradients of pairs; one predictor has none, and there, as elsewhere
    with `log`, it is the gradient at what is sent.
    """
    found = {}
    for sampling in ('uniform', 'weighted'):
        for sent in SENT:
            if sent < predictors:
                kind = 'pairs' if sent > 1 else 'squared'
                found[f'{sent} sent, {sampling}'] = FedBoost(
                    sent, sampling, estimator=kind
                )
                found[f'{sent} sent, {sampling}, log-loss'] = FedBoost(
                    sent, sampling, estimator='log'
                )
    found['all sent'] = FedBoost(predictors)
    found['all sent, log-loss'] = FedBoost(predictors, estimator='log')
    found['4 sent, uniform, agnostic'] = FedBoost(min(4, predictors), agnostic=True)
    return found


def run(setting: Setting, name: str, options: FedBoost, seed: int) -> dict:
    """Returns one run: figures by round, and its mean weights.

    Of every `EVERY` rounds: the squared loss of the mean weights at the learners, and
    the bytes that a client of each round so far was sent and sent, in all.
    """
    examples = setting.learners
    task = Task.of(examples, setting.pool.bytes)
    options = dataclasses.replace(options, clients_per_round=min(COHORT, len(examples)))
    fed_boost.check_options(options, task)
    moments = moments_of(examples)

    def step(state):
        state, row = fed_boost.next_round(options, task, state, seed)
        spent = (row['bytes/down'] + row['bytes/up']) / options.clients_per_round
        told = squared_loss(state.mean, moments) if state.rounds % EVERY == 0 else 0.0
        return state, (told, spent)

    folder = setting.folder / 'checkpoints' / name
    state, told = pieces.rounds(
        folder, fed_boost.initialize(task), step, setting.rounds, 2, CHECKPOINTS
    )
    state = fed_boost.State(*state)
    shown = slice(EVERY - 1, None, EVERY)
    return {
        'weights': state.mean.tolist(),
        'chosen by': squared_loss(state.mean, moments_of(setting.choosers)),
        'loss': told[shown, 0].tolist(),
        'bytes': np.cumsum(told[:, 1])[shown].tolist(),
    }


def measured(setting: Setting, seeds: Sequence[int], bar) -> dict[str, dict]:
    """Returns what each variant came to: its rate, and a run for each seed."""
    found = {}
    for name, options in variants(len(setting.pool.names)).items():

        def made(rate: float, seed: int, name=name, options=options) -> dict:
            of = dataclasses.replace(options, learning_rate=rate)
            full = f'{name}, rate {rate:g}, seed {seed}'
            return pieces.piece(
                setting.folder, full, lambda: run(setting, full, of, seed)
            )

        tried = {rate: made(rate, seeds[0]) for rate in RATES}
        rate = min(tried, key=lambda rate: tried[rate]['chosen by'])
        runs = [tried[rate], *(made(rate, seed) for seed in seeds[1:])]
        found[name] = {'rate': rate, 'runs': runs}
        bar.update()
        bar.set_postfix_str(name)
    return found

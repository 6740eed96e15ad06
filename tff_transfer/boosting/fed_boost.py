"""FedBoost: weights of an ensemble, of which each round's clients get a few members.

Hamer, Mohri & Suresh 2020, "FedBoost: A communication-efficient algorithm for federated
learning", algorithms FedBoost and AFLBoost. The base predictors are trained beforehand.
A round's clients get the sampled predictors and their weights, and send back the
gradient by these weights; the server makes a step of mirror descent on the simplex. The
result is the mean of the weights over rounds. AFLBoost (`agnostic`) also moves a
mixture of domains, up the gradient of their losses, so that the worst one counts
(Mohri, Sivek & Suresh 2019, "Agnostic federated learning").
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tff_transfer import randomness
from tff_transfer.boosting import draws, gradients, simplex
from tff_transfer.boosting.examples import Examples
from tff_transfer.errors import UserError
from tff_transfer.options import GIVEN, check, check_effects, option

_NUMBER = 4  # Bytes of a number that travels.


@dataclasses.dataclass(frozen=True)
class FedBoost:
    """FedBoost."""

    sent: int = option(2, 'How many predictors are drawn in a round.', at_least=1)
    sampling: str = option(
        'uniform',
        "Whether all sets of predictors are alike, or each is drawn by the ensemble's"
        ' weights.',
        choices=('uniform', 'weighted'),
    )
    floor: float = option(
        0.1,
        'The share of the probability of drawing that is the same for all predictors.',
        above=0,
        at_most=1,
        only_for={'sampling': ('weighted',)},
    )
    estimator: str = option(
        'pairs',
        'The gradient: of the squared loss, without bias, by pairs that are sent'
        ' together; or of the squared or the log-loss at the ensemble that is sent.',
        choices=tuple(gradients.ESTIMATORS),
    )
    learning_rate: float = option(0.1, 'The step of the weights.', above=0)
    clients_per_round: int = option(20, 'Clients of a round.', at_least=1)
    agnostic: bool = option(
        False, 'Whether the worst mixture of domains counts (AFLBoost), not the mean.'
    )
    domain_learning_rate: float = option(
        0.1, 'The step of the mixture.', above=0, only_for={'agnostic': GIVEN}
    )

    @property
    def rule(self) -> draws.Rule:
        """How predictors are drawn."""
        return (
            draws.Uniform()
            if self.sampling == 'uniform'
            else draws.Weighted(self.floor)
        )


class State(NamedTuple):
    """What the server has.

    Attributes:
      weights: The ensemble's, float64 [q].
      mixture: Of domains, float64 [domains]; their shares of the examples if it does
        not move.
      weights_sum: The sum of the weights that rounds began with, float64 [q].
      mixture_sum: The same of the mixture.
      rounds: How many rounds there were, int64.
    """

    weights: np.ndarray
    mixture: np.ndarray
    weights_sum: np.ndarray
    mixture_sum: np.ndarray
    rounds: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """The result: the mean of the weights over rounds, float64 [q]."""
        return self.weights_sum / self.rounds if self.rounds else self.weights


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What is learnt from.

    Attributes:
      examples: The clients', with the predictors' probabilities as `x`, float32
        [n, q, classes].
      sizes: Bytes of each predictor, int64 [q].
      domain: The domain of each client, int64 [clients], numbered from 0.
    """

    examples: Examples
    sizes: np.ndarray
    domain: np.ndarray

    @classmethod
    def of(
        cls,
        examples: Examples,
        sizes: Sequence[int],
        domain: np.ndarray | None = None,
    ) -> 'Task':
        """Checks and joins these; without `domain` each client is one.

        Raises:
          UserError: They do not fit together.
        """
        domain = np.arange(len(examples)) if domain is None else np.asarray(domain)
        if examples.x.ndim != 3 or examples.x.shape[1:] != (
            len(sizes),
            examples.num_classes,
        ):
            raise UserError(
                f'answers of shape {examples.x.shape} are not those of {len(sizes)}'
                f' predictors to {examples.num_classes} classes'
            )
        if len(domain) != len(examples):
            raise UserError(
                f'{len(domain)} domains are given for {len(examples)} clients'
            )
        shares = np.bincount(domain, examples.sizes)
        if not np.all(shares):
            raise UserError(f'domain {np.argmin(shares)} has no examples')
        return cls(examples, np.asarray(sizes, np.int64), domain)

    @functools.cached_property
    def domain_sizes(self) -> np.ndarray:
        """How many examples each domain has, float64 [domains]."""
        return np.bincount(self.domain, self.examples.sizes)

    @property
    def shares(self) -> np.ndarray:
        """The domains' shares of the examples, float64 [domains]."""
        return self.domain_sizes / len(self.examples.y)


def initialize(task: Task) -> State:
    """Returns equal weights, and the domains as they are."""
    weights, mixture = simplex.uniform(len(task.sizes)), task.shares
    zeros = np.zeros_like(weights), np.zeros_like(mixture)
    return State(weights, mixture, *zeros, np.int64(0))


class Told(NamedTuple):
    """What a round's clients tell, in expectation what all would.

    Attributes:
      gradient: By each predictor's weight, of the mixture's loss, float64 [q].
      losses: The mean loss of each domain, float64 [domains].
    """

    gradient: np.ndarray
    losses: np.ndarray


def told(
    options: FedBoost,
    task: Task,
    state: State,
    draw: draws.Draw,
    clients: Sequence[int],
) -> Told:
    """Returns what some clients tell of a draw.

    A client counts for its share of its domain's examples, and those that were chosen
    for all: with each set of so many clients alike, the expectation is that of all.

    Args:
      options: What is estimated.
      task: Whose examples.
      state: The weights and the mixture.
      draw: What was sent.
      clients: The clients of the round, all different.
    """
    examples, weights = task.examples, state.weights[draw.sent]
    estimate = gradients.ESTIMATORS[options.estimator]
    losses = np.zeros(len(task.domain_sizes))
    gradient = np.zeros(len(task.sizes))
    for client in clients:
        rows = examples.rows(client)
        if rows.start == rows.stop:
            continue
        answers = np.moveaxis(examples.x[rows][:, draw.sent], 1, 0)
        loss, found = estimate(draw, weights, answers, examples.y[rows])
        domain = task.domain[client]
        share = (rows.stop - rows.start) / task.domain_sizes[domain]
        share *= len(examples) / len(clients)
        losses[domain] += share * loss
        gradient[draw.sent] += state.mixture[domain] * share * found
    return Told(gradient, losses)


def next_round(
    options: FedBoost, task: Task, state: State, seed: int
) -> tuple[State, dict[str, float]]:
    """Makes one round.

    Args:
      options: How.
      task: What is learnt from.
      state: What the server has before it.
      seed: The seed of clients and draws.

    Returns:
      What it has after it, and `bytes/down` and `bytes/up` of all of its clients.
    """
    number, count = int(state.rounds), options.clients_per_round
    cohort = randomness.generator(seed, 'cohort', number).choice(
        len(task.examples), count, replace=False
    )
    generator = randomness.generator(seed, 'predictors', number)
    draw = options.rule.draw(state.weights, options.sent, generator)
    found = told(options, task, state, draw, cohort)
    mixture = state.mixture
    if options.agnostic:
        mixture = simplex.step(mixture, found.losses, -options.domain_learning_rate)
    after = State(
        simplex.step(state.weights, found.gradient, options.learning_rate),
        mixture,
        state.weights_sum + state.weights,
        state.mixture_sum + state.mixture,
        np.int64(number + 1),
    )
    # The loss and the number of examples travel beside the gradient.
    numbers = len(draw.sent)
    down = int(task.sizes[draw.sent].sum()) + _NUMBER * numbers
    return after, {
        'bytes/down': count * down,
        'bytes/up': count * _NUMBER * (numbers + 2),
    }


def check_options(options: FedBoost, task: Task) -> None:
    """Checks, before long work, that options fit.

    Raises:
      UserError: They do not.
    """
    check(options)
    check_effects(options)
    draws.check(options.sent, len(task.sizes))
    if options.estimator == 'pairs' and options.sent == 1 < len(task.sizes):
        raise UserError(
            '--estimator=pairs needs pairs of predictors; give --sent=2 or more, or'
            ' another --estimator'
        )
    if options.clients_per_round > len(task.examples):
        raise UserError(
            f'{options.clients_per_round} clients a round are more than there are'
            f' ({len(task.examples)}); ask for fewer'
        )

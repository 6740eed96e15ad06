"""AdaBoost over clients: weak learners of clients, chosen by their error on all.

AdaBoost.F of Polato, Esposito & Aldinucci 2022, "Boosting the federation: Cross-silo
federated learning without gradient descent", with the weights of SAMME (Zhu, Zou,
Rosset & Hastie 2009, "Multi-class AdaBoost", algorithm 2). Each client weights its
examples. In a round some clients train a weak learner each; all clients measure the
weighted error of each of these; the server adds up the errors and takes the best;
clients raise the weights of the examples that it gets wrong. Weights never leave a
client; sums of them do. There all clients train in each round. Here some are drawn,
adaptively if wanted: the probability grows with a client's share of the weighted
error, as boosting itself looks at the examples that are wrong.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from tff_transfer import randomness
from tff_transfer.boosting.examples import Examples
from tff_transfer.boosting.weak import Learner, Learnt
from tff_transfer.errors import UserError
from tff_transfer.options import check, check_effects, option

_FLOAT = 8
# An error of 0 would give a learner all the say there is.
_LEAST = 1e-10


@dataclasses.dataclass(frozen=True)
class AdaBoost:
    """AdaBoost."""

    rounds: int = option(50, 'Rounds; each adds a weak learner.', at_least=1)
    clients_per_round: int = option(
        10, 'Clients of a round that train a weak learner.', at_least=1
    )
    adaptive: bool = option(
        True, 'Whether clients with more weighted error are drawn more often.'
    )
    floor: float = option(
        0.1,
        'With --adaptive, the share of the probability that is the same for all.',
        at_least=0,
        at_most=1,
    )


class State(NamedTuple):
    """What server and clients have; of rounds to come it is 0.

    Attributes:
      learnt: Of each round the chosen learner's arrays, [rounds, ...].
      say: What each counts for, float64 [rounds].
      weights: Of the examples, at their clients, float64 [n]; the sum is 1.
      errors: The share of each client in the weighted error of the last choice, at the
        weights after it, float64 [clients]: by which the next ones are drawn.
      rounds: How many rounds there were, int64.
    """

    learnt: Learnt
    say: np.ndarray
    weights: np.ndarray
    errors: np.ndarray
    rounds: np.ndarray


def say_of(error: float, classes: int) -> float:
    """Returns SAMME's log((1 - error) / error) + log(classes - 1).

    Above 0 where a learner is better than chance.

    Args:
      error: The weighted error, from 0 to 1.
      classes: How many there are.
    """
    error = min(max(error, _LEAST), 1 - _LEAST)
    return math.log((1 - error) / error) + math.log(classes - 1)


def check_options(options: AdaBoost, learner: Learner, examples: Examples) -> None:
    """Checks, before long work, that options fit.

    Raises:
      UserError: They do not.
    """
    for part in (options, learner):
        check(part)
    check_effects(options)
    able = int(np.count_nonzero(examples.sizes))
    if options.clients_per_round > able:
        raise UserError(
            f'{options.clients_per_round} clients a round are more than have examples'
            f' ({able}); ask for fewer'
        )


def initialize(options: AdaBoost, learner: Learner, examples: Examples) -> State:
    """Returns equal weights, and no learners."""
    n = len(examples.y)
    weights = np.full(n, 1 / n)
    like = learner.fit(
        examples.x[:1], examples.y[:1], weights[:1], examples.num_classes
    )
    learnt = tuple(np.zeros((options.rounds, *of.shape), of.dtype) for of in like)
    return State(
        learnt,
        np.zeros(options.rounds),
        weights,
        examples.sizes / n,
        np.int64(0),
    )


def drawn(options: AdaBoost, state: State, examples: Examples, seed: int) -> np.ndarray:
    """Returns the clients that train in the next round, int64 [clients_per_round].

    Args:
      options: How they are drawn.
      state: What there is before the round.
      examples: Clients without any never train.
      seed: The seed of the draw.
    """
    able = np.flatnonzero(examples.sizes)
    probabilities = np.full(len(able), 1 / len(able))
    share = state.errors[able]
    if options.adaptive and share.any():
        probabilities = (
            options.floor * probabilities + (1 - options.floor) * share / share.sum()
        )
    generator = randomness.generator(seed, 'cohort', int(state.rounds))
    # With a floor of 0 there may be fewer whose probability is above 0.
    count = min(options.clients_per_round, np.count_nonzero(probabilities))
    return np.sort(generator.choice(able, count, replace=False, p=probabilities))


def next_round(
    options: AdaBoost, learner: Learner, examples: Examples, state: State, seed: int
) -> tuple[State, dict[str, float]]:
    """Makes one round.

    Args:
      options: How.
      learner: What clients train.
      examples: Theirs, with inputs as the learner takes them.
      state: What there is before it.
      seed: The seed of the clients that train.

    Returns:
      What there is after it, and `error` of the learner that was chosen, `client` that
      trained it, `bytes/down` and `bytes/up` of all clients.
    """
    number, classes = int(state.rounds), examples.num_classes
    cohort = drawn(options, state, examples, seed)
    candidates, wrong = [], []
    for client in cohort:
        rows = examples.rows(client)
        own = state.weights[rows]
        found = learner.fit(
            examples.x[rows], examples.y[rows], own / own.sum(), classes
        )
        candidates.append(found)
        wrong.append(learner.predict(found, examples.x) != examples.y)
    owner, clients = examples.client_of_row, len(examples)
    by_client = np.stack(
        [np.bincount(owner, of * state.weights, clients) for of in wrong]
    )
    best = int(np.argmin(by_client.sum(1)))
    error = float(by_client[best].sum())
    say = say_of(error, classes)
    size = sum(part.nbytes for part in candidates[0])
    row = {
        'error': error,
        'client': int(cohort[best]),
        # All get the candidates and the choice with its say; all send errors.
        'bytes/down': clients * (len(cohort) * size + 2 * _FLOAT),
        'bytes/up': len(cohort) * size + clients * _FLOAT * (len(cohort) + 1),
    }
    if say <= 0:  # Of these none is better than chance; others may be.
        return state._replace(rounds=np.int64(number + 1)), row
    raised = state.weights * np.exp(say * wrong[best])
    weights = raised / raised.sum()
    return _with(state, number, candidates[best], say)._replace(
        weights=weights,
        errors=np.bincount(owner, wrong[best] * weights, clients),
        rounds=np.int64(number + 1),
    ), row


def _with(state: State, number: int, learnt: Learnt, say: float) -> State:
    """Returns a state with a round's learner."""
    arrays = tuple(of.copy() for of in (*state.learnt, state.say))
    for of, value in zip(arrays, (*learnt, say), strict=True):
        of[number] = value
    return state._replace(learnt=arrays[:-1], say=arrays[-1])


def votes(learner: Learner, state: State, x: np.ndarray, classes: int) -> np.ndarray:
    """Returns the say of those learners that are for each label, float64 [n, classes].

    Args:
      learner: What was trained.
      state: The ensemble.
      x: Inputs as the learner takes them.
      classes: How many labels there are.
    """
    found = np.zeros((len(x), classes))
    for number in range(int(state.rounds)):
        if state.say[number]:
            learnt = tuple(of[number] for of in state.learnt)
            found[np.arange(len(x)), learner.predict(learnt, x)] += state.say[number]
    return found

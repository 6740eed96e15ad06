"""AdaBoost over the clients: weak learners of theirs, picked by error on all."""

import pathlib

import numpy as np

from experiments import pieces
from tff_transfer.boosting import ada_boost, bins, weak
from tff_transfer.boosting.ada_boost import AdaBoost
from tff_transfer.boosting.examples import Examples

ROUNDS, COHORT = 40, 10
EVERY, CHECKPOINTS = 5, 5
TREE = weak.Tree(depth=3, bins=8)
# By name, the learner and whether clients are drawn adaptively.
VARIANTS = {
    'class means, adaptive': (weak.Means(), True),
    'class means, clients alike': (weak.Means(), False),
    'trees, adaptive': (TREE, True),
    'trees, clients alike': (TREE, False),
}


def run(folder: pathlib.Path, name: str, seen: Examples, unseen: Examples) -> dict:
    """Returns one run: accuracies on unseen clients and bytes by round.

    Args:
      folder: Where pieces are.
      name: Of `VARIANTS`.
      seen: Those who boost, with standardised features.
      unseen: Those who judge.
    """
    learner, adaptive = VARIANTS[name]
    if isinstance(learner, weak.Tree):
        edges = bins.agreed(seen, learner.bins)
        seen, unseen = (of.with_x(edges.columns(of.x).T) for of in (seen, unseen))
    able = int(np.count_nonzero(seen.sizes))
    options = AdaBoost(ROUNDS, min(COHORT, able), adaptive)
    ada_boost.check_options(options, learner, seen)

    def judged(state) -> float:
        votes = ada_boost.votes(learner, state, unseen.x, unseen.num_classes)
        return float(np.mean(np.argmax(votes, 1) == unseen.y))

    def step(state):
        state = ada_boost.State(*state)
        state, row = ada_boost.next_round(options, learner, seen, state, 0)
        number = int(state.rounds)
        told = judged(state) if number == 1 or number % EVERY == 0 else np.nan
        return state, (told, row['error'], row['bytes/down'] + row['bytes/up'])

    _, told = pieces.rounds(
        folder / 'checkpoints' / name,
        ada_boost.initialize(options, learner, seen),
        step,
        ROUNDS,
        3,
        CHECKPOINTS,
    )
    shown = np.flatnonzero(~np.isnan(told[:, 0]))
    return {
        'round': (shown + 1).tolist(),
        'accuracy': told[shown, 0].tolist(),
        'error': told[:, 1].tolist(),
        'bytes': (np.cumsum(told[:, 2]) / len(seen))[shown].tolist(),
    }

"""Boosted trees: over the clients, each client alone, and all in one place."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from experiments import pieces
from tff_transfer import randomness
from tff_transfer.boosting import bins, gradient_boosting
from tff_transfer.boosting.bins import Bins
from tff_transfer.boosting.examples import Examples
from tff_transfer.boosting.gradient_boosting import Boosting, Task
from tff_transfer.boosting.summing import Noise, Secure, Summing
from tff_transfer.errors import UserError
from tff_transfer.privacy import accounting

BINS = 16
PLAIN = Boosting(rounds=40, depth=4, learning_rate=0.3, penalty=1.0)
# Fewer and smaller sums, of which each has its share of the noise.
PRIVATE = Boosting(rounds=10, depth=2, learning_rate=0.3, penalty=1.0, min_hessian=10.0)
# Features of a round, where there are more.
FEATURES, PRIVATE_FEATURES = 32, 8
CLIPS = {'client': 100.0, 'example': 10.0}
CHECKPOINTS = 5
# Clients of whom each trains alone, at most.
ALONE = 40
FEDERATED, SECURE = 'federated', 'federated, secure sums'
LOCAL, CENTRAL = 'each client alone (LightGBM)', 'in one place (LightGBM)'


class Table(NamedTuple):
    """What trees are grown and judged on.

    Attributes:
      seen: Training examples of the clients that take part.
      own: Test examples of the same clients.
      unseen: All examples of other clients.
    """

    seen: Examples
    own: Examples
    unseen: Examples


def private_name(unit: str, epsilon: float) -> str:
    """Returns what a run is called that hides clients or examples."""
    return f'federated, epsilon {epsilon:g} for a{"n" * (unit == "example")} {unit}'


def _options(of: Boosting, features: int, most: int) -> Boosting:
    count = most if features > most else None
    return Boosting(**{**vars(of), 'features': count})


def federated(
    folder: pathlib.Path,
    name: str,
    table: Table,
    options: Boosting,
    edges: Bins,
    summing: Summing,
) -> dict:
    """Returns what trees over the clients came to."""
    task = Task.of(options, table.seen, edges, summing)
    judges = {what: getattr(table, what) for what in ('own', 'unseen')}
    columns = {what: edges.columns(of.x) for what, of in judges.items()}

    def step(state):
        trees, found = state
        trees = gradient_boosting.State(*trees)
        trees, found, row = gradient_boosting.next_round(task, trees, found, 0)
        return (trees, found), (row['bytes/down'] + row['bytes/up'],)

    first = gradient_boosting.initialize(task)
    start = (first, gradient_boosting.scores(first, task.columns))
    (state, _), told = pieces.rounds(
        folder / 'checkpoints' / name, start, step, options.rounds, 1, CHECKPOINTS
    )
    state = gradient_boosting.State(*state)
    scores = {w: gradient_boosting.scores(state, of) for w, of in columns.items()}
    result = {
        what: float(np.mean(np.argmax(scores[what], 0) == of.y))
        for what, of in judges.items()
    }
    agreed = edges.bytes_up + edges.bytes_down
    result['bytes'] = float(told.sum() / len(table.seen)) + agreed
    result['told'] = f'{options.rounds} rounds, depth {options.depth}'
    if summing.noise is not None:
        noise = summing.noise
        result['told'] += (
            f', noise multiplier {noise.noise_multiplier:.3g}, epsilon'
            f' {noise.epsilon(task.sums):.3g} at delta {noise.delta:g}'
        )
    return result


def library():
    """Returns LightGBM.

    Raises:
      UserError: It cannot be loaded.
    """
    try:
        import lightgbm
    except (ImportError, OSError) as error:
        raise UserError(
            f'LightGBM cannot be loaded ({error}): give make install, and on Debian and'
            ' Ubuntu apt install libgomp1'
        ) from error
    return lightgbm


def by_lightgbm(options: Boosting, x: np.ndarray, y: np.ndarray, classes: int):
    """Trains LightGBM with the same depth, rate and features a round."""
    parameters = {
        'objective': 'multiclass',
        'num_class': classes,
        'learning_rate': options.learning_rate,
        'max_depth': options.depth,
        'num_leaves': 2**options.depth,
        'lambda_l2': options.penalty,
        'min_sum_hessian_in_leaf': options.min_hessian,
        'min_data_in_leaf': 1,
        'max_bin': BINS,
        'feature_fraction': (options.features or x.shape[1]) / x.shape[1],
        'seed': 0,
        'deterministic': True,
        'force_col_wise': True,
        'num_threads': 1,
        'verbose': -1,
    }
    of = library()
    return of.train(parameters, of.Dataset(x, y), options.rounds)


def _right(booster, of: Examples) -> np.ndarray:
    return np.argmax(booster.predict(of.x), 1) == of.y


def central(table: Table, options: Boosting) -> dict:
    """Returns what LightGBM comes to on all examples in one place."""
    seen = table.seen
    booster = by_lightgbm(options, seen.x, seen.y, seen.num_classes)
    return {
        w: float(_right(booster, getattr(table, w)).mean()) for w in table._fields[1:]
    }


def local(table: Table, options: Boosting) -> dict:
    """Returns what LightGBM comes to for clients that each train alone.

    On their own test examples together, and on the unseen clients' on average.
    """
    seen, own = table.seen, table.own
    able = np.flatnonzero((seen.sizes > 1) & (own.sizes > 0))
    some = randomness.generator(0, 'alone').permutation(able)[:ALONE]
    right, unseen = [], []
    for client in some:
        rows, tests = seen.rows(client), own.rows(client)
        booster = by_lightgbm(options, seen.x[rows], seen.y[rows], seen.num_classes)
        mine = Examples(
            own.x[tests], own.y[tests], np.array([0, tests.stop - tests.start]),
            own.num_classes,
        )  # fmt: skip
        right.append(_right(booster, mine))
        unseen.append(_right(booster, table.unseen).mean())
    return {
        'own': float(np.concatenate(right).mean()),
        'unseen': float(np.mean(unseen)),
        'told': f'{len(some)} clients',
    }


def measured(
    folder: pathlib.Path,
    kind: str,
    table: Table,
    private: Table | None,
    epsilon: float,
    bar,
) -> Mapping[str, dict]:
    """Returns what each way came to, by name.

    Args:
      folder: Where pieces are.
      kind: What the table is called in the names of files.
      table: The examples.
      private: The same ones with features that hang on nobody else's, for noise; or
        None, where there are too few for that.
      epsilon: Of the private ways.
      bar: Moves on with each.
    """
    features = table.seen.x.shape[1]
    plain = _options(PLAIN, features, FEATURES)
    found = {}

    def add(name: str, make) -> None:
        found[name] = pieces.piece(folder, f'{kind}, {name}', make)
        bar.update()
        bar.set_postfix_str(f'{kind}, {name}')

    add(LOCAL, lambda: local(table, plain))
    add(CENTRAL, lambda: central(table, plain))
    for name, secure in ((FEDERATED, None), (SECURE, Secure())):
        add(
            name,
            lambda name=name, secure=secure: federated(
                folder, f'{kind}, {name}', table, plain, bins.agreed(table.seen, BINS),
                Summing(secure),
            ),
        )  # fmt: skip
    if private is None:
        return found
    few = _options(PRIVATE, features, PRIVATE_FEATURES)
    public = bins.public(features, BINS)
    for unit in ('example', 'client'):
        without = Noise(1.0, unit, CLIPS[unit])
        name = private_name(unit, epsilon)
        multiplier = accounting.noise_multiplier_for(
            epsilon, few.rounds * few.depth, without
        )
        noise = Noise(multiplier, unit, CLIPS[unit])
        add(
            name,
            lambda name=name, noise=noise: federated(
                folder, f'{kind}, {name}', private, few, public, Summing(noise=noise)
            ),
        )
    add(
        'federated, as with noise but without',
        lambda: federated(
            folder, f'{kind}, without noise', private, few, public, Summing()
        ),
    )
    return found

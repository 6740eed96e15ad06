"""Power-of-choice on synthetic(1, 1): clients of high loss, and fewer rounds.

Cho et al. 2022, "Towards understanding biased client selection in federated learning",
section 5: 30 clients of very different sizes, logistic regression, 3 clients in a
round, the plain mean of their models, rate 0.05, batches of 50; d candidates are drawn
by examples, and those of the highest loss train. Without candidates to spare (d = 3)
that is the paper's random choice. Here a client does 5 epochs of at most 300 examples,
where the paper has 30 steps.

  python -m experiments.claims.power_of_choice --output=power_of_choice.png
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.claims import study, synthetic
from tff_transfer.algorithms import FedAvg
from tff_transfer.records import plots
from tff_transfer.simulation.selection.by_examples import ByExamples
from tff_transfer.simulation.selection.power_of_choice import PowerOfChoice

IN_ROUND = 3
# By the plain mean of models but for the first, whose mean weighs by examples.
RULES = {
    'uniform': synthetic.UNIFORM,
    'by examples': ByExamples(),
    **{f'pow-d, d = {d}': PowerOfChoice(d=d) for d in (6, 15, 30)},
    'rpow-d, d = 15': PowerOfChoice(d=15, stale=True),
}
RANDOM = 'by examples'
ACCURACY = 0.8


def train(rule, rounds: int, seed: int) -> Sequence[Mapping]:
    """Trains with the draws of a seed; returns the rows of the evaluations."""
    result = synthetic.train(
        FedAvg(),
        selection=rule,
        clients=30,
        seed=seed,
        rounds=rounds,
        clients_per_round=IN_ROUND,
        client_epochs=5,
        max_examples=300,
        batch_size=50,
        client_learning_rate=0.05,
        weighting='examples' if rule == synthetic.UNIFORM else 'uniform',
        evaluate_every=max(rounds // 100, 1),
        **synthetic.MEAN,
    )
    return [row for row in result.rows if row['seen/loss'] is not None]


def late(rows: Sequence[Mapping], column: str) -> float:
    """Returns the mean of a column over the last quarter of the evaluations."""
    return float(np.mean([row[column] for row in rows[-(len(rows) // 4) :]]))


def first(rows: Sequence[Mapping], reached: Callable[[Mapping], bool]) -> float:
    """Returns the first round after whose evaluation something is so, or infinity."""
    return next((row['round'] for row in rows if reached(row)), math.inf)


def measure(seeds: list[int], rounds: int) -> study.Found:
    """Returns what each rule comes to, beside the paper's random choice."""
    found = {n: [train(rule, rounds, s) for s in seeds] for n, rule in RULES.items()}
    targets = [late(rows, 'seen/loss') for rows in found[RANDOM]]
    table = [
        [
            'clients',
            f'rounds to {ACCURACY:.0%}',
            f"rounds to the late loss of '{RANDOM}'",
            'late loss',
            'late accuracy',
            'models sent a round',
        ]
    ]
    for name, runs in found.items():
        early = [
            first(rows, lambda row: row['seen/accuracy'] >= ACCURACY) for rows in runs
        ]
        needed = [
            first(rows, lambda row, target=target: row['seen/loss'] <= target)
            for rows, target in zip(runs, targets, strict=True)
        ]
        down = runs[0][-1]['bytes/down'] / found['uniform'][0][-1]['bytes/down']
        table.append(
            [
                name,
                study.rounds_needed(early, rounds),
                study.rounds_needed(needed, rounds),
                study.spread([late(rows, 'seen/loss') for rows in runs], '.3f'),
                study.spread([late(rows, 'seen/accuracy') for rows in runs]),
                f'{down * IN_ROUND:.0f}',
            ]
        )
    curves = {
        name: [(row['round'], row['seen/loss']) for row in runs[0]]
        for name, runs in found.items()
    }
    return study.Found(table, plots.compared(curves, 'test loss'))


if __name__ == '__main__':
    study.run(measure, rounds=300, seeds=3)

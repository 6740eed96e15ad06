"""FedProx on synthetic(1, 1): partial work of stragglers is better than none.

Li et al. 2020, "Federated optimization in heterogeneous networks", section 5.2 and
figure 1: 30 clients, 10 of them in a round, 20 epochs, batches of 10, rate 0.01,
logistic regression; 0, 50 or 90 % of a round's clients do fewer epochs, drawn from 1
to 20. FedAvg drops them, FedProx takes what they have done.

  python -m experiments.claims.fedprox --output=fedprox.png
"""

from collections.abc import Mapping, Sequence

import numpy as np

import tff_transfer as tt
from experiments.claims import study, synthetic
from tff_transfer.records import plots

STRAGGLERS = (0.0, 0.5, 0.9)
MUS = (0.01, 0.1, 1.0)


def train(
    method, stragglers: float, rounds: int, seed: int, *, drop: bool = False
) -> Sequence[Mapping]:
    """Trains with the draws of a seed; returns the rows of the evaluations."""
    unequal = {
        'min_client_epochs': 1,
        'straggler_fraction': stragglers,
        'drop_stragglers': drop,
    }
    result = synthetic.train(
        method,
        clients=30,
        seed=seed,
        rounds=rounds,
        clients_per_round=10,
        client_epochs=20,
        batch_size=10,
        client_learning_rate=0.01,
        evaluate_every=max(rounds // 20, 1),
        **synthetic.MEAN,
        **(unequal if stragglers else {}),
    )
    return [row for row in result.rows if row['seen/loss'] is not None]


def late(rows: Sequence[Mapping], column: str) -> float:
    """Returns the mean of a column over the second half of the evaluations."""
    return float(np.mean([row[column] for row in rows[len(rows) // 2 :]]))


def best_mu(stragglers: float, rounds: int) -> float:
    """Returns the mu above 0 of the lowest loss, on data of its own."""

    def loss(mu):
        method = tt.algorithms.FedProx(mu=mu)
        return late(
            train(method, stragglers, rounds, synthetic.OF_CHOICES), 'seen/loss'
        )

    return min(MUS, key=loss)


def measure(seeds: list[int], rounds: int) -> study.Found:
    """Returns loss and accuracy by method and share of stragglers."""
    table, curves = [['stragglers', '', 'test loss', 'test accuracy']], {}
    for stragglers in STRAGGLERS:
        mu = best_mu(stragglers, rounds)
        cases = {
            'FedAvg': (tt.algorithms.FedAvg(), True),
            'FedProx, mu = 0': (tt.algorithms.FedProx(mu=0.0), False),
            f'FedProx, mu = {mu:g}': (tt.algorithms.FedProx(mu=mu), False),
        }
        if not stragglers:  # There it is FedAvg.
            del cases['FedProx, mu = 0']
        for name, (method, drop) in cases.items():
            runs = [train(method, stragglers, rounds, s, drop=drop) for s in seeds]
            table.append(
                [
                    f'{stragglers:.0%}',
                    name,
                    study.spread([late(run, 'seen/loss') for run in runs], '.2f'),
                    study.spread([late(run, 'seen/accuracy') for run in runs]),
                ]
            )
            print('  '.join(table[-1]), flush=True)
            if stragglers == STRAGGLERS[-1]:
                points = [(row['round'], row['seen/loss']) for row in runs[0]]
                curves[name] = points
    what = f'test loss with {STRAGGLERS[-1]:.0%} stragglers'
    return study.Found(table, plots.compared(curves, what))


if __name__ == '__main__':
    study.run(measure, rounds=30, seeds=3)

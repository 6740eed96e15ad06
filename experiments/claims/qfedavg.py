"""q-FFL on synthetic(1, 1): the worst clients gain, and the variance falls.

Li et al. 2020, "Fair resource allocation in federated learning", section 4.2 and
table 1: 100 clients, 10 of them in a round, one epoch, batches of 10, logistic
regression, rate 0.1, q = 0 against q = 1.

  python -m experiments.claims.qfedavg --output=qfedavg.png
"""

import numpy as np

import tff_transfer as tt
from experiments.claims import study, synthetic
from tff_transfer.records import plots

# The paper's, and with it L = 10.
RATE = 0.1
QS = (0.0, 1.0)


def train(q: float, rounds: int, seed: int) -> tt.Result:
    """Trains with the draws of a seed."""
    return synthetic.train(
        tt.algorithms.QFedAvg(q=q),
        clients=100,
        seed=seed,
        rounds=rounds,
        clients_per_round=10,
        batch_size=10,
        client_learning_rate=RATE,
        evaluate_every=rounds,
    )


def measure(seeds: list[int], rounds: int) -> study.Found:
    """Returns what the clients' test accuracies come to, with either q."""
    head = [
        'q',
        'all examples',
        'mean of clients',
        'worst 10 %',
        'best 10 %',
        'variance',
    ]
    table, shown = [head], {}
    for q in QS:
        told = []
        for seed in seeds:
            result = train(q, rounds, seed)
            accuracies = np.sort(list(result.per_client['seen'].values()))
            tenth = len(accuracies) // 10
            told.append(
                [
                    result.rows[-1]['seen/accuracy'],
                    np.mean(accuracies),
                    np.mean(accuracies[:tenth]),
                    np.mean(accuracies[-tenth:]),
                    # Of accuracies in percent, as the paper has it.
                    np.var(100 * accuracies),
                ]
            )
            shown.setdefault(f'q = {q:g}', list(enumerate(accuracies.tolist(), 1)))
        *shares, variance = zip(*told, strict=True)
        cells = [*map(study.spread, shares), study.spread(variance, '.0f')]
        table.append([f'{q:g}', *cells])
    figure = plots.compared(shown, "a client's test accuracy")
    figure.axes[0].set(xlabel='clients, the worst first')
    return study.Found(table, figure)


if __name__ == '__main__':
    study.run(measure, rounds=1000, seeds=3)

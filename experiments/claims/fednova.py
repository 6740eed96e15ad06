"""FedNova on synthetic(1, 1): unequal local work does not change what is minimised.

Wang et al. 2020, "Tackling the objective inconsistency problem in heterogeneous
federated optimization", section 6: 30 clients of very different sizes, logistic
regression; all clients do 5 epochs, or each draws from 1 to 5 in each round. Here all
30 take part in each round, so that nothing else blurs what a method converges to.

  python -m experiments.claims.fednova --output=fednova.png
"""

import numpy as np

import tff_transfer as tt
from experiments.claims import study, synthetic
from tff_transfer.records import plots
from tff_transfer.training.evaluation import Evaluator

METHODS = {'FedAvg': tt.algorithms.FedAvg(), 'FedNova': tt.algorithms.FedNova()}
EPOCHS = {'5': {}, '1 to 5': {'min_client_epochs': 1}}
RATES = (0.01, 0.03, 0.1)


def train(method: str, epochs: str, rate: float, rounds: int, seed: int) -> tt.Result:
    """Trains with the draws of a seed."""
    return synthetic.train(
        METHODS[method],
        clients=30,
        seed=seed,
        rounds=rounds,
        clients_per_round=30,
        client_epochs=5,
        client_learning_rate=rate,
        evaluate_every=max(rounds // 20, 1),
        **synthetic.MEAN,
        **EPOCHS[epochs],
    )


def objective(result: tt.Result) -> float:
    """Returns the mean loss over all training examples, after the last round."""
    setup = result.setup
    evaluator = Evaluator(setup.model, setup.data, setup.transform)
    rows = np.flatnonzero(setup.data.is_train)
    return float(np.mean(evaluator.per_example(result.weights, rows)['loss']))


def measure(seeds: list[int], rounds: int) -> study.Found:
    """Returns what either method comes to, with equal and unequal epochs."""
    head = ['epochs', '', 'rate', 'training loss', 'test accuracy']
    table, curves = [head], {}
    for epochs in EPOCHS:
        for method in METHODS:
            tried = {
                rate: objective(
                    train(method, epochs, rate, rounds, synthetic.OF_CHOICES)
                )
                for rate in RATES
            }
            rate = min(tried, key=tried.get)
            runs = [train(method, epochs, rate, rounds, seed) for seed in seeds]
            losses = [objective(run) for run in runs]
            accuracies = [run.rows[-1]['seen/accuracy'] for run in runs]
            cells = [study.spread(losses, '.3f'), study.spread(accuracies)]
            table.append([epochs, method, f'{rate:g}', *cells])
            print('  '.join(table[-1]), flush=True)
            curves[f'{method}, {epochs} epochs'] = [
                (row['round'], row['seen/loss'])
                for row in runs[0].rows
                if row['seen/loss'] is not None
            ]
    return study.Found(table, plots.compared(curves, 'test loss'))


if __name__ == '__main__':
    study.run(measure, rounds=40, seeds=3)

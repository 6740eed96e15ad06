"""TFF's own federated evaluation, on this package's runtime or on TFF's.

Runs in this package's environment, as a module; instead of weights it hands back
loss and accuracy.
"""

import numpy as np
import tensorflow_federated as tff

from benchmarks.peers import runner, tff_models
from benchmarks.peers.tff import clients
from tff_transfer import runtime


def evaluate(work: runner.Work, options) -> runner.Result:
    """Calls `process.next` of `build_fed_eval` once for each round."""
    stock = options.runtime == 'stock'
    with runtime.use_stock() if stock else runtime.use_compiled():
        process = tff.learning.algorithms.build_fed_eval(tff_models.tff_model(work))
        data = clients(work, stock)
        weights = tff.learning.models.ModelWeights(work.weights, [])
        first = process.set_model_weights(process.initialize(), weights)
        output = []

        def next_round(state):
            output[:] = [process.next(state, data)]
            return output[0].state

        seconds, _ = runner.time_rounds(next_round, first, options.rounds)
        metrics = output[0].metrics['client_work']['eval']['current_round_metrics']
    values = [np.asarray(metrics[name]) for name in ('loss', 'accuracy')]
    settings = (
        "TFF's worker, a tf.data.Dataset for each client, made beforehand"
        if stock
        else 'use_compiled() as it stands, the cohort as arrays'
    )
    return runner.Result(seconds, values, settings)


def add_options(parser) -> None:
    """Adds the runtime."""
    parser.add_argument('--runtime', choices=['compiled', 'stock'], required=True)


if __name__ == '__main__':
    runner.main(evaluate, ['tensorflow-federated', 'tensorflow'], add_options)

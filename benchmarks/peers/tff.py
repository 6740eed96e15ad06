"""TFF's own federated averaging, on this package's runtime or on TFF's.

Runs in this package's environment, as a module. The process is the same, and
unmodified, on both runtimes.
"""

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from benchmarks.peers import runner, tff_models
from tff_transfer import runtime
from tff_transfer.data.cohorts import Cohort

# As TFF makes them, each from the number of clients.
AGGREGATORS = {
    'mean': None,
    'dp': lambda clients: tff.learning.dp_aggregator(0.01, clients),
    'robust': lambda clients: tff.learning.robust_aggregator(),
    'compression': lambda clients: tff.learning.compression_aggregator(),
    'secure': lambda clients: tff.learning.secure_aggregator(),
    'ddp_secure': lambda clients: tff.learning.ddp_secure_aggregator(0.01, clients),
}


def build_process(
    work: runner.Work, aggregator: str
) -> tff.learning.templates.LearningProcess:
    """Returns federated averaging with one of `tff.learning`'s aggregators."""
    learning = tff.learning.algorithms
    # Differential privacy wants equal weights, by TFF's rules.
    build = (
        learning.build_unweighted_fed_avg
        if aggregator in ('dp', 'ddp_secure')
        else learning.build_weighted_fed_avg
    )
    make_factory = AGGREGATORS[aggregator]
    return build(
        tff_models.tff_model(work),
        tff.learning.optimizers.build_sgdm(work.learning_rate),
        tff.learning.optimizers.build_sgdm(1.0),
        model_aggregator=make_factory and make_factory(work.clients),
    )


def clients(work: runner.Work, stock: bool):
    """Returns the clients' data in the form that a runtime likes best."""
    examples = collections.OrderedDict(x=work.x, y=work.y)
    cohort = Cohort(examples, work.row_splits, work.batch_size)
    return list(cohort) if stock else cohort


def initial_state(process, work: runner.Work):
    """Returns the process's first state, with the workload's weights."""
    state = process.initialize()
    network = tff_models.keras_network(work)
    weights = tff.learning.models.ModelWeights(
        [w.numpy() for w in network.trainable_weights],
        [w.numpy() for w in network.non_trainable_weights],
    )
    return process.set_model_weights(state, weights)


def train(work: runner.Work, options) -> runner.Result:
    """Trains with `process.next`; the stock runtime's data sets are made before."""
    stock = options.runtime == 'stock'
    with runtime.use_stock() if stock else runtime.use_compiled():
        process = build_process(work, options.aggregator)
        data = clients(work, stock)
        seconds, state = runner.time_rounds(
            lambda state: process.next(state, data).state,
            initial_state(process, work),
            options.rounds,
        )
        weights = process.get_model_weights(state).trainable
    settings = (
        "TFF's worker, a tf.data.Dataset for each client, made beforehand"
        if stock
        else 'use_compiled() as it stands, the cohort as arrays'
    )
    return runner.Result(seconds, [np.asarray(w) for w in weights], settings)


def add_options(parser) -> None:
    """Adds the runtime and the aggregator."""
    parser.add_argument('--runtime', choices=['compiled', 'stock'], required=True)
    parser.add_argument('--aggregator', choices=list(AGGREGATORS), default='mean')


if __name__ == '__main__':
    tf.get_logger().setLevel('ERROR')
    runner.main(train, ['tensorflow-federated', 'tensorflow', 'numpy'], add_options)

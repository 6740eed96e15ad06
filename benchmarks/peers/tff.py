"""TFF's own federated averaging, on this package's runtime or on TFF's.

Runs in this package's environment, as a module. The process is the same, and
unmodified, on both runtimes.
"""

import collections
from collections.abc import Callable, Sequence

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


DATA = {
    'cohort': 'the cohort as arrays',
    'datasets': 'a tf.data.Dataset for each client, made beforehand',
    'new_datasets': 'a tf.data.Dataset for each client, made anew before each round',
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


class Rounds:
    """The data of each round, made before its time is taken.

    Attributes:
      clients: Those of the coming round.
    """

    def __init__(self, make: Callable[[], Sequence], anew: bool):
        """Keeps how data are made, for each round or once for all."""
        self.clients = None
        self._make = make
        self._anew = anew

    def prepare(self) -> None:
        """Makes the coming round's data, if it cannot have the last one's."""
        if self._anew or self.clients is None:
            self.clients = self._make()


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
    """Trains with `process.next`; data sets are made before a round's time."""
    stock = options.runtime == 'stock'
    alone = {'lockstep': False} if options.runtime == 'alone' else {}
    with runtime.use_stock() if stock else runtime.use_compiled(**alone):
        process = build_process(work, options.aggregator)
        form = options.data or ('datasets' if stock else 'cohort')
        data = Rounds(
            lambda: clients(work, stock=form != 'cohort'), form == 'new_datasets'
        )
        seconds, state = runner.time_rounds(
            lambda state: process.next(state, data.clients).state,
            initial_state(process, work),
            options.rounds,
            data.prepare,
        )
        weights = process.get_model_weights(state).trainable
    which = "TFF's worker" if stock else 'use_compiled() as it stands'
    which = 'use_compiled(lockstep=False)' if alone else which
    settings = f'{which}, {DATA[form]}'
    return runner.Result(seconds, [np.asarray(w) for w in weights], settings)


def add_options(parser) -> None:
    """Adds the runtime, the aggregator and the form of the clients' data."""
    parser.add_argument(
        '--runtime', choices=['compiled', 'alone', 'stock'], required=True
    )
    parser.add_argument('--aggregator', choices=list(AGGREGATORS), default='mean')
    parser.add_argument('--data', choices=list(DATA))


if __name__ == '__main__':
    tf.get_logger().setLevel('ERROR')
    runner.main(train, ['tensorflow-federated', 'tensorflow', 'numpy'], add_options)

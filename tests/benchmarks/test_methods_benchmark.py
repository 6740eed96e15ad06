"""The pieces of `benchmarks.methods`, without its times."""

import numpy as np
import pytest
import tensorflow_federated as tff

from benchmarks import kept, methods, methods_tables, workloads
from benchmarks.peers import tff as peer
from benchmarks.peers import tff_models
from tff_transfer import models, runtime
from tff_transfer.algorithms import registry
from tff_transfer.algorithms.method import Context
from tff_transfer.errors import UserError


def test_every_method_has_a_row_and_federated_averaging_is_the_first():
    rows = methods.options()
    assert next(iter(rows)) == methods_tables.FED_AVG
    assert set(rows) == {*registry.NAMES, 'scaffold I'} - {
        *registry.OF_ALL,
        *registry.OF_GANS,
    }


@pytest.mark.parametrize('name', ['fedavg', 'scaffold I'])
def test_a_turn_is_a_round_of_all_clients(name):
    work = workloads.head([3, 4], batch_size=2)
    sgd = tff.learning.optimizers.build_sgdm
    context = Context(
        models.from_keras(tff_models.keras_network(work)),
        sgd(work.learning_rate),
        sgd(1.0),
        population=2,
    )
    cohort = peer.clients(work, stock=False)
    with runtime.use_compiled():
        turn = methods.turn(methods.options()[name], context, cohort)
        turn.run(2)
        turn.run(2)
        with pytest.raises(UserError, match='of 3 clients 2 had a finite update'):
            turn.run(3)
    assert len(turn.seconds) == len(turn.processor) == 3


def test_ratios_are_of_the_same_turn():
    # The machine was ten times slower in the second turn; the first compiles.
    base = {'seconds': [9.0, 1.0, 10.0, 1.0]}
    record = {'seconds': [1.0, 2.0, 20.0, 2.0]}
    assert methods_tables.ratio(record, base, 'seconds') == 2.0


def test_page_says_what_failed():
    times = {'seconds': [1.0, 0.5, 0.5], 'processor': [1.0, 0.25, 0.25]}
    slower = {'seconds': [1.0, 0.75, 0.75], 'processor': [1.0, 0.5, 0.5]}
    broken = {'error': 'it does not suit'}
    lines = methods_tables.table(
        'head', {methods_tables.FED_AVG: times, 'mime': slower, 'local': broken}
    )
    (mime,) = (line for line in lines if line.startswith('| mime'))
    assert '| 0.7500 | 0.7500, 0.7500 | 1.50 | 1.50 | 2.00 | 1.00 |' in mime
    assert '| local | it does not suit |' in '\n'.join(lines)


def test_kept_has_one_batch_of_each_client():
    work = kept.clients_of_round()
    assert work.clients == kept.OF_ROUND
    np.testing.assert_array_equal(np.diff(work.row_splits), work.batch_size)
    assert sum(w.size for w in work.weights) == 100_006

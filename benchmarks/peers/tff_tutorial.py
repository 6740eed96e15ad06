"""Federated averaging with client data as TFF's tutorial on EMNIST has them.

Each client's examples come from a `ClientData`, in memory or in SQLite, and go through
the tutorial's own chain of `tf.data`, with its constants.
"""

import collections
import dataclasses
import pathlib
import tempfile

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from benchmarks.peers import runner, tff_models
from benchmarks.peers.tff import Rounds, initial_state
from tff_transfer import runtime
from tff_transfer.data import sqlite
from tff_transfer.data.federated import FederatedData

EPOCHS, SHUFFLE_BUFFER, PREFETCH_BUFFER = 5, 100, 10


def preprocess(dataset: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Returns a client's batches."""

    def batch_format_fn(element):
        return collections.OrderedDict(
            x=tf.reshape(element['pixels'], [-1, 784]),
            y=tf.reshape(element['label'], [-1]),
        )

    return (
        dataset.repeat(EPOCHS)
        .shuffle(SHUFFLE_BUFFER, seed=1)
        .batch(batch_size)
        .map(batch_format_fn)
        .prefetch(PREFETCH_BUFFER)
    )


def in_memory(work: runner.Work) -> tff.simulation.datasets.ClientData:
    """Returns the clients as `TestClientData`."""
    return tff.simulation.datasets.TestClientData(
        {
            _name(client): collections.OrderedDict(
                label=work.y[work.rows(client)], pixels=work.x[work.rows(client)]
            )
            for client in range(work.clients)
        }
    )


def in_sqlite(work: runner.Work, path: pathlib.Path):
    """Returns the clients as TFF reads them from a new database."""
    counts = np.diff(work.row_splits)
    ids = tuple(map(_name, range(work.clients)))
    x, classes = work.x[..., np.newaxis], work.weights[-1].shape[0]
    sqlite.write(
        FederatedData('', x, work.y, ids, counts, np.zeros_like(counts), classes), path
    )
    spec = collections.OrderedDict(
        label=tf.TensorSpec([], tf.int32), pixels=tf.TensorSpec([28, 28], tf.float32)
    )
    return tff.simulation.datasets.load_and_parse_sql_client_data(
        str(path), spec, 'all_train'
    )


def _name(client: int) -> str:
    # TFF sorts the names in a database.
    return f'{client:06}'


def train(work: runner.Work, options) -> runner.Result:
    """Trains with `process.next`; data sets are made before a round's time."""
    model = dataclasses.replace(work, model='linear', x=work.x.reshape(len(work.x), -1))
    stock = options.runtime == 'stock'
    with (
        tempfile.TemporaryDirectory() as folder,
        runtime.use_stock() if stock else runtime.use_compiled(),
    ):
        sql = options.source == 'sqlite'
        path = pathlib.Path(folder) / 'clients.sqlite'
        source = in_sqlite(work, path) if sql else in_memory(work)
        data = Rounds(
            lambda: [
                preprocess(source.create_tf_dataset_for_client(c), work.batch_size)
                for c in source.client_ids
            ],
            options.anew,
        )
        process = tff_models.fed_avg(tff_models.tff_model(model), model)
        seconds, state = runner.time_rounds(
            lambda state: process.next(state, data.clients).state,
            initial_state(process, model),
            options.rounds,
            data.prepare,
        )
        weights = process.get_model_weights(state).trainable
    which = "TFF's worker" if stock else 'use_compiled() as it stands'
    made = 'anew before each round' if options.anew else 'beforehand'
    settings = f'{which}, data sets made {made}'
    return runner.Result(seconds, [np.asarray(w) for w in weights], settings)


def add_options(parser) -> None:
    """Adds the runtime, where the examples are, and when data sets are made."""
    parser.add_argument('--runtime', choices=['compiled', 'stock'], required=True)
    parser.add_argument('--source', choices=['memory', 'sqlite'], required=True)
    parser.add_argument('--anew', action='store_true')


if __name__ == '__main__':
    tf.get_logger().setLevel('ERROR')
    runner.main(train, ['tensorflow-federated', 'tensorflow', 'numpy'], add_options)

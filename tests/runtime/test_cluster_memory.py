"""A cohort that is larger than what any node may have in memory."""

import collections
import pathlib
import re
import resource

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_transfer import runtime
from tff_transfer.data.cohorts import Cohort
from tff_transfer.data.rows import PreparedRows
from tff_transfer.errors import UserError
from tff_transfer.features.scaling import Standardisation

pytestmark = pytest.mark.slow
MIB = 2**20
SIZE, BATCH = 1024, 64
BATCHES = tff.SequenceType(
    collections.OrderedDict(x=tff.TensorType(np.float32, [None, SIZE]))
)


@tff.tensorflow.computation(BATCHES)
def total(data):
    return data.reduce(
        tf.zeros([SIZE]), lambda state, batch: state + tf.reduce_sum(batch['x'], 0)
    )


@tff.federated_computation(tff.FederatedType(BATCHES, tff.CLIENTS))
def totals(data):
    return tff.federated_sum(tff.federated_map(total, data))


def cohort(x, clients):
    splits = np.linspace(0, len(x), clients + 1).astype(np.int64)
    # What is gathered and standardised is memory of the actor's own.
    scale = Standardisation(np.float32(1), np.float32(2))
    rows = PreparedRows(x, np.arange(len(x)), scale)
    return Cohort(collections.OrderedDict(x=rows), splits, BATCH)


def limit(pid, more):
    """Limits what a process may have in memory of its own to so many bytes more."""
    status = pathlib.Path(f'/proc/{pid}/status').read_text('ascii')
    now = int(re.search(r'VmData:\s+(\d+) kB', status)[1]) * 1024
    resource.prlimit(pid, resource.RLIMIT_DATA, (now + more, resource.RLIM_INFINITY))


def test_a_cohort_that_fits_no_node_runs_by_smaller_blocks(cluster, tmp_path):
    from ray._private import state

    path = tmp_path / 'x.npy'
    x = np.lib.format.open_memmap(path, 'w+', np.float32, (75_000, SIZE))
    x[:] = np.arange(75_000, dtype=np.float32)[:, None] % 7 + 0.1
    x.flush()
    x = np.load(path, mmap_mode='r')
    few = cohort(x[:4096], 32)
    there = {a['ActorID'] for a in state.actors().values()}
    with runtime.use_cluster(cluster.address, block_bytes=8 * MIB) as context:
        totals(few)
        pids = [a['Pid'] for i, a in state.actors().items() if i not in there]
        assert len(pids) == 2 and x.nbytes > 290 * MIB
        for pid in pids:
            limit(pid, 100 * MIB)
        found = totals(cohort(x, 100))
        # Paths and row numbers travelled, and sums.
        assert context._compiled._executor.moved['clients'] < 2 * MIB
        with (
            runtime.use_cluster(cluster.address),
            pytest.raises(UserError, match='smaller block_bytes'),
        ):
            totals(cohort(x, 100))
    with runtime.use_compiled(block_bytes=8 * MIB):
        np.testing.assert_array_equal(found, totals(cohort(x, 100)))

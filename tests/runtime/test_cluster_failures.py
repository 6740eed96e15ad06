"""Actors, nodes and drivers that die in the middle of a run on a cluster."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import test_compiled_processes as processes
import walks

import tff_transfer as tt
from tff_transfer import runtime
from tff_transfer.errors import UserError
from tff_transfer.records import checkpoints

pytestmark = pytest.mark.slow


def many(round_number):
    return processes.cohort(round_number, (300,) * 40)


def workers_of(context):
    return context._compiled._executor._workers


def pid_of(worker):
    from ray._private import state

    return state.actors(worker.handle._actor_id.hex())['Pid']


def ends(pid, seconds=20):
    """Returns whether a process ends within some seconds."""
    for _ in range(seconds * 20):
        try:
            stat = pathlib.Path(f'/proc/{pid}/stat').read_text('ascii')
        except OSError:
            return True
        if stat.rpartition(')')[2].split()[0] == 'Z':
            return True
        time.sleep(0.05)
    return False


class Killer(threading.Thread):
    """Kills actors and, every fifth time, a node; whoever has it adds others."""

    def __init__(self, cluster, workers, rounds, kills):
        super().__init__(daemon=True)
        self._cluster, self._workers, self._rounds = cluster, workers, rounds
        self._kills = kills
        self._draw = np.random.default_rng(18)
        self.killed, self.error = [], None

    def run(self):
        try:
            while len(self.killed) < self._kills:
                # Clients that five actors end over would be blamed for it.
                done = len(self._rounds)
                while len(self._rounds) == done or len(self._cluster.nodes) < 2:
                    time.sleep(0.01)
                time.sleep(self._draw.uniform(0, 0.5))
                if self._workers.ready:
                    self._kill(self._draw.choice(self._workers.ready))
        except Exception as error:
            self.error = error

    def _kill(self, worker):
        if len(self.killed) % 5 == 4:
            (node,) = [n for n in self._cluster.nodes if n.node_id == worker.node]
            self._cluster.kill(node)
        else:
            os.kill(pid_of(worker), signal.SIGKILL)
        self.killed.append(worker)
        # It may not be chosen again before its loss was seen.
        while worker in self._workers.ready and self.is_alive():
            time.sleep(0.01)


@pytest.mark.parametrize('kills', walks.over([5, 20], [5]))
def test_killed_actors_and_nodes_cost_time_alone(kills, cluster):
    process = processes.fed_avg()(processes.functional_model())
    with runtime.use_cluster(cluster.address) as context:
        found, state = [], process.initialize()
        killer = Killer(cluster, workers_of(context), found, kills)
        killer.start()
        while killer.is_alive() or len(found) < 5:
            found.append(process.next(state, many(len(found))))
            state = found[-1].state
            if len(cluster.nodes) < 2:
                cluster.add()
    assert killer.error is None and len(killer.killed) == kills
    with runtime.use_compiled():
        expected = processes.run(process, many, rounds=len(found))
    processes.assert_same(expected, found, 0)


def test_a_node_that_joins_is_used_from_the_next_round(cluster, monkeypatch):
    process = processes.fed_avg()(processes.functional_model())
    with runtime.use_cluster(cluster.address) as context:
        workers = workers_of(context)
        before = processes.run(process, many, rounds=1)
        assert len(workers.ready) == 2
        node = cluster.add()
        state = before[0].state
        while len(workers.ready) < 3:
            state = process.next(state, many(1)).state
        moved = context._compiled._executor.moved
        sent = moved['broadcast']
        process.next(state, many(2))
        weights = sum(w.nbytes for w in processes.functional_model().initial_weights[0])
        assert moved['broadcast'] - sent >= 3 * weights
    cluster.kill(node)


DRIVER = """
import sys
import tff_transfer as tt
config = tt.Config(
    tt.DataConfig(dataset='synthetic_writers'),
    tt.ModelConfig(model='mlp'),
    tt.TrainingConfig(
        rounds={rounds}, clients_per_round=4, checkpoint_every=2, seed=3,
        runtime={runtime!r}, cluster_address={address!r},
    ),
)
"""
TRAIN = DRIVER + 'tt.train(config, sys.argv[1])'


def config(rounds, cluster=None):
    names = {}
    address = cluster and cluster.address
    kind = 'cluster' if cluster else 'compiled'
    exec(DRIVER.format(rounds=rounds, runtime=kind, address=address), names)
    return names['config']


def test_a_driver_that_dies_leaves_no_process_and_its_run_resumes(cluster, tmp_path):
    from ray._private import state

    there = {a['ActorID'] for a in state.actors().values()}
    text = TRAIN.format(rounds=500, runtime='cluster', address=cluster.address)
    driver = subprocess.Popen([sys.executable, '-c', text, str(tmp_path / 'run')])
    folder = tmp_path / 'run' / 'checkpoints'
    while driver.poll() is None and len(checkpoints.rounds(folder)) < 2:
        time.sleep(0.05)
    pids = [a['Pid'] for i, a in state.actors().items() if i not in there]
    assert len(pids) == 2 and driver.poll() is None
    driver.kill()
    driver.wait()
    assert all(ends(pid) for pid in pids)
    done = max(checkpoints.rounds(folder))
    found = tt.train(config(done + 3, cluster), tmp_path / 'run')
    expected = tt.train(config(done + 3))
    for a, b in zip(found.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_node_that_would_give_other_results_is_refused(cluster, monkeypatch):
    from tff_transfer.runtime.cluster import same

    facts = {**same.facts(), 'tensorflow': '2.14.0'}
    monkeypatch.setattr(same, 'facts', lambda: facts)
    with pytest.raises(UserError, match=r'tensorflow is 2.14.1 there and 2.14.0 here'):
        runtime.use_cluster(cluster.address)


def test_a_full_object_store_is_told_in_one_line(cluster, monkeypatch):
    import ray

    process = processes.fed_avg()(processes.functional_model())
    with runtime.use_cluster(cluster.address):
        state = process.initialize()

        def full(_):
            raise ray.exceptions.ObjectStoreFullError('full')

        monkeypatch.setattr(ray, 'put', full)
        told = 'object store is full.*--object_store_memory'
        with pytest.raises(UserError, match=told):
            process.next(state, many(1))


def test_what_fails_at_a_client_is_told_as_on_one_machine(cluster):
    import tensorflow as tf
    import tensorflow_federated as tff

    @tff.tensorflow.computation(tff.SequenceType(np.int32))
    def checked(data):
        def add(total, x):
            with tf.control_dependencies([tf.debugging.assert_less(x, 9)]):
                return total + x

        return data.reduce(0, add)

    @tff.federated_computation(
        tff.FederatedType(tff.SequenceType(np.int32), tff.CLIENTS)
    )
    def totals(data):
        return tff.federated_sum(tff.federated_map(checked, data))

    @tff.federated_computation(
        tff.FederatedType(tff.SequenceType(np.int32), tff.CLIENTS)
    )
    def themselves(data):
        skip = tff.tensorflow.computation(
            lambda d: d.skip(1), tff.SequenceType(np.int32)
        )
        return tff.federated_map(skip, data)

    with runtime.use_cluster(cluster.address):
        with pytest.raises(UserError, match='clients give sequences'):
            themselves([[1], [2, 3]])
        assert totals([[1], [2, 3], [4]]) == 10
        with pytest.raises(tf.errors.InvalidArgumentError, match='client 1, step 2'):
            totals([[1], [2, 3, 9], [4]])


def test_no_node_left_is_told_in_one_line(cluster):
    process = processes.fed_avg()(processes.functional_model())
    with runtime.use_cluster(cluster.address):
        state = process.next(process.initialize(), many(0)).state
        for node in [*cluster.nodes]:
            cluster.kill(node)
        with pytest.raises(UserError, match='no node with processors left'):
            process.next(state, many(1))
    cluster.add()
    cluster.add()
    with runtime.use_cluster(cluster.address):
        process.next(state, many(1))

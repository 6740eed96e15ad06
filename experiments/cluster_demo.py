"""Trains on a cluster of three nodes, kills one of them, and compares.

  python -m experiments.cluster_demo

starts a Ray cluster of three nodes of one processor on this machine's loopback,
trains on it, kills a node in the middle, trains again without any cluster, and tells
whether the weights are the same to the last bit. See docs/cluster.md.
"""

import pathlib
import tempfile
import threading
import time

import numpy as np

import tff_transfer as tt
from experiments import command_line, local_nodes
from tff_transfer.errors import UserError

NODES, ROUNDS, KILLED_IN = 3, 12, 5


def config(address: str | None = None) -> tt.Config:
    """Returns the run, on a cluster if its address is given."""
    return tt.Config(
        tt.DataConfig(dataset='synthetic_writers'),
        tt.ModelConfig(model='cnn'),
        tt.TrainingConfig(
            rounds=ROUNDS,
            clients_per_round=10,
            evaluate_every=ROUNDS,
            seed=1,
            runtime='cluster' if address else 'compiled',
            cluster_address=address,
        ),
    )


def kill_one(nodes: local_nodes.Nodes, run_dir: pathlib.Path) -> None:
    """Kills a node in the round after some that are done."""
    rows = run_dir / 'metrics.csv'
    while not rows.exists() or len(rows.read_text('utf-8').splitlines()) < KILLED_IN:
        time.sleep(0.02)
    nodes.kill(nodes.nodes[0])
    print(f'\nround {KILLED_IN}: a node was killed; {len(nodes.nodes)} are left')


def main() -> None:
    """Trains both, and compares."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, local_nodes.opened(NODES) as nodes:
        print(f'a cluster of {NODES} nodes at {nodes.address}')
        run_dir = pathlib.Path(folder) / 'run'
        killer = threading.Thread(target=kill_one, args=(nodes, run_dir), daemon=True)
        killer.start()
        found = tt.train(config(nodes.address), run_dir)
        killer.join()
    print('the same on this machine alone')
    expected = tt.train(config())
    same = all(map(np.array_equal, found.weights, expected.weights))
    for name, result in (('cluster', found), ('alone', expected)):
        row = result.rows[-1]
        print(f'{name:8} round {row["round"]}, accuracy {row["seen/accuracy"]:.4f}')
    if not same:
        raise UserError('the weights differ; please report it, with your processor')
    numbers = sum(w.size for w in found.weights)
    seconds = time.perf_counter() - began
    print(f'{numbers:,} weights are the same to the last bit ({seconds:.0f} s)')


if __name__ == '__main__':
    command_line.run(main)

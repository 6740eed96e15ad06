"""A grid as it is typed: killed in the middle, resumed, with other numbers of threads.

These start processes that import TensorFlow, and are slow.
"""

import csv
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.slow


def command(folder, processes, *more):
    return [
        *(sys.executable, '-m', 'experiments.compare'),
        *('--dataset=synthetic_alpha_beta', '--num_writers=20', '--model=mlp'),
        *('--unseen_fraction=0.3', '--rounds=60', '--clients_per_round=5'),
        *('--evaluate_every=20', '--algorithm=fedavg,moon', '--skip_unfit'),
        *('--server_optimizer=sgd', '--server_learning_rate=1'),
        *('--client_learning_rate=0.05,1e38', '--seed=1'),
        *(f'--runs={folder}', f'--processes={processes}', *more),
    ]


def start(*arguments):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    return subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    out, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return out


def table(folder):
    """Returns the rows of the table, without what hangs on the clock."""
    text = (folder / 'compare.csv').read_text().splitlines()
    rows = [*csv.DictReader(text)]
    return [{k: v for k, v in row.items() if 'seconds' not in k} for row in rows]


def test_a_killed_grid_goes_on_to_the_same_table(tmp_path):
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    out = finished(start(whole, 1))
    assert 'left out: moon' in out
    rows = {row['arm']: row for row in table(whole)}
    good = 'fedavg, client_learning_rate=0.05'
    bad = 'fedavg, client_learning_rate=1e+38'
    assert rows[good]['failed'] == ''
    assert float(rows[good]['unseen clients mean']) > 0
    assert 'diverged' in rows[bad]['failed']
    assert rows[bad]['unseen clients mean'] == ''

    process = start(killed, 2)
    while not [*killed.glob('*/checkpoints/*')]:  # In the middle of a run.
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / 'compare.csv').exists()
    # Its processes are gone, or runs would be in use; and with one thread each, the
    # bits are those of two threads.
    time.sleep(1)
    finished(start(killed, 2))
    assert table(killed) == table(whole)
    for path in whole.glob('*/clients.json'):
        assert (killed / path.relative_to(whole)).read_text() == path.read_text()

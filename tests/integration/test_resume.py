"""A run that is killed at any instant, as a process, ends as if it never was."""

import csv
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
COMMAND = [
    sys.executable,
    '-m',
    'experiments.emnist_fedavg',
    '--dataset=synthetic_writers',
    '--num_writers=12',
    '--examples_per_writer=20',
    '--model=mlp',
    '--hidden_units=16',
    '--dropout=0.2',
    '--clients_per_round=4',
    '--rounds=40',
    '--checkpoint_every=5',
    '--evaluate_every=5',
]


def _rows(run_dir):
    path = run_dir / 'metrics.csv'
    return path.read_text().splitlines() if path.exists() else []


def _run_until(run_dir, lines):
    """Runs until `metrics.csv` has so many lines, then kills the process."""
    process = subprocess.Popen([*COMMAND, f'--run_dir={run_dir}'], cwd=ROOT)
    while process.poll() is None and len(_rows(run_dir)) < lines:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_killed_run_ends_bit_for_bit_as_one_that_was_not(tmp_path):
    whole, killed = tmp_path / 'whole', tmp_path / 'killed'
    subprocess.run([*COMMAND, f'--run_dir={whole}'], cwd=ROOT, check=True)
    for lines in (3, 24):
        _run_until(killed, lines)
        assert lines <= len(_rows(killed)) < 42
    subprocess.run([*COMMAND, f'--run_dir={killed}'], cwd=ROOT, check=True)

    def values(run_dir):
        rows = csv.DictReader(_rows(run_dir))
        return [{k: v for k, v in r.items() if not k.startswith('time/')} for r in rows]

    assert values(whole) == values(killed)
    name = 'checkpoints/round_000040.npz'
    first, second = np.load(whole / name), np.load(killed / name)
    assert first.files == second.files
    for leaf in first.files[:-2]:  # Without the checksums, of the seconds too.
        np.testing.assert_array_equal(first[leaf], second[leaf])

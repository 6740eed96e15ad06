"""The picture of augmented images, as a user makes it."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.walk
def test_a_picture_is_drawn(tmp_path):
    command = [
        *(sys.executable, '-m', 'experiments.augmented_images'),
        *('--dataset=synthetic_writers', '--num_writers=2'),
        f'--output={tmp_path / "picture.png"}',
    ]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 2
    assert told.stderr.startswith('error: no augmentation is asked for')
    subprocess.run([*command, '--augment_flip'], cwd=ROOT, check=True)
    assert (tmp_path / 'picture.png').read_bytes().startswith(b'\x89PNG')

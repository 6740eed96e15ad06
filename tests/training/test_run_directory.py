"""A run directory holds one run."""

import dataclasses
import json
import os

import numpy as np
import pytest

from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.training import run_directory
from tff_transfer.training.config import Config, TrainingConfig


def test_a_new_one_records_the_configuration(tmp_path):
    with run_directory.opened(tmp_path / 'a' / 'run', Config()) as path:
        stored = json.loads((path / 'config.json').read_text())
    assert stored['training'] == dataclasses.asdict(TrainingConfig())
    assert stored['versions']['tensorflow-federated'] == '0.87.0'


def test_the_same_configuration_opens_it_again(tmp_path):
    for _ in range(2):
        with run_directory.opened(tmp_path / 'run', Config()):
            pass


def test_another_configuration_is_refused_with_the_difference(tmp_path):
    with run_directory.opened(tmp_path / 'run', Config()):
        pass
    other = Config(training=TrainingConfig(batch_size=7))
    with (
        pytest.raises(UserError, match='--batch_size=20 there, 7 now'),
        run_directory.opened(tmp_path / 'run', other),
    ):
        pass


def test_two_at_once_are_refused(tmp_path):
    with (
        run_directory.opened(tmp_path / 'run', Config()),
        pytest.raises(UserError, match='in use by another process'),
        run_directory.opened(tmp_path / 'run', Config()),
    ):
        pass


def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / 'thesis.txt').write_text('x')
    with (
        pytest.raises(UserError, match='holds files, but no run'),
        run_directory.opened(tmp_path, Config()),
    ):
        pass
    assert os.listdir(tmp_path) == ['thesis.txt']


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / 'file').write_text('x')
    with (
        pytest.raises(UserError, match='cannot be written'),
        run_directory.opened(tmp_path / 'file' / 'run', Config()),
    ):
        pass


def test_other_data_are_refused(tmp_path):
    def data(pixel):
        return FederatedData(
            'mine',
            np.full((2, 3), pixel, np.float32),
            np.zeros(2, np.int32),
            ('a',),
            np.array([1]),
            np.array([1]),
            1,
        )

    run_directory.check_same_data(tmp_path, data(0.0))
    run_directory.check_same_data(tmp_path, data(0.0))
    with pytest.raises(UserError, match='whose data was mine .* is now mine'):
        run_directory.check_same_data(tmp_path, data(1.0))

"""Bytes to an accuracy, by hand; and every scheme of the study fits the flags."""

import pytest
from test_rounds_to_accuracy import FAST, SLOW

from experiments import compression
from tff_transfer.compression.sparse import TopK
from tff_transfer.errors import UserError
from tff_transfer.training.config import Config
from tff_transfer.training.training_config import TrainingConfig


def test_bytes_are_those_up_to_the_round_of_the_best_rate():
    runs = {
        rate: [{**row, 'bytes/down': 1e6, 'bytes/up_coded': 2e6} for row in rows]
        for rate, rows in {0.1: SLOW, 0.3: FAST}.items()
    }
    found = compression.row('drive', runs, 0.7)
    assert found == ['drive', '0.3', '4', '90.0%', '12.00', '8.00', '4.00']
    found = compression.row('drive', runs, 0.95)
    assert found == ['drive', '0.1', '-', '90.0%', '-', '-', '-']
    lines = compression.drawn({'drive': runs[0.3]}, 0.7).axes[0].lines
    assert list(lines[0].get_xdata()) == [3, 6, 9, 12]


def test_every_scheme_is_one_that_a_run_takes():
    for name in compression.SCHEMES:
        compression.configured(Config(), name, 0.1).check()


def test_what_the_study_chooses_is_refused_before_it_begins():
    with pytest.raises(UserError, match='chooses compression itself'):
        compression.check(Config(compression=TopK()))
    with pytest.raises(UserError, match='chooses client_learning_rate itself'):
        compression.check(Config(training=TrainingConfig(client_learning_rate=0.1)))
    compression.check(Config(training=TrainingConfig(rounds=3)))

"""Rounds to an accuracy, by hand; and one study of two methods, small."""

import pytest

from experiments import rounds_to_accuracy
from tff_transfer.errors import UserError
from tff_transfer.training.config import Config
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig


def rows(seen, unseen):
    """Returns rows that were evaluated in every second round."""
    found = []
    for number, (a, b) in enumerate(zip(seen, unseen, strict=True)):
        measured = {'seen/accuracy': a, 'unseen/accuracy': b, 'bytes/up': 3e6}
        found += [{'round': 2 * number, **measured}]
        found += [{'round': 2 * number + 1, **dict.fromkeys(measured), 'bytes/up': 3e6}]
    return found[:-1]  # The last round is evaluated.


SLOW = rows([0.1, 0.5, 0.9], [0.1, 0.9, 0.9])
FAST = rows([0.1, 0.8, 0.8], [0.1, 0.2, 0.9])


def test_the_rate_is_chosen_by_seen_clients_and_counted_on_unseen_ones():
    runs = {0.1: SLOW, 0.3: FAST}
    assert rounds_to_accuracy.best(runs, 0.7) == 0.3  # In 2 rounds, not in 4.
    assert rounds_to_accuracy.best(runs, 0.85) == 0.1
    assert rounds_to_accuracy.best(runs, 0.95) == 0.1  # Neither: the better one.
    found = rounds_to_accuracy.row('head', 'fedavg', runs, 0.7, 3)
    assert found == ['head', 'fedavg', '0.3', '4', '90.0%', '4.0']
    found = rounds_to_accuracy.row('head', 'fedavg', {0.1: SLOW}, 0.95, 3)
    assert found == ['head', 'fedavg', '0.1', '-', '90.0%', '-']


@pytest.mark.parametrize(
    ('config', 'named'),
    [
        (Config(model=ModelConfig(model='cnn')), 'model'),
        (Config(training=TrainingConfig(client_learning_rate=1.0)), 'client_learning'),
    ],
)
def test_what_the_study_chooses_is_refused(config, named):
    with pytest.raises(UserError, match=named):
        rounds_to_accuracy.check(config)
    rounds_to_accuracy.check(Config(training=TrainingConfig(rounds=7)))


def test_each_method_is_there_or_a_baseline():
    for name in rounds_to_accuracy.METHODS:
        rounds_to_accuracy.configured(Config(), 'cnn', name, 0.1).check()

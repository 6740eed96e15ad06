"""What a guarantee costs: the runs of the study, and one of each kind, small."""

import math

import pytest

from experiments import private_accuracy
from tff_transfer.errors import UserError
from tff_transfer.privacy.nothing import NoPrivacy
from tff_transfer.privacy.tree import Tree
from tff_transfer.training.config import Config
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig


def test_a_run_keeps_to_its_epsilon_or_to_none():
    config = Config(training=TrainingConfig(rounds=7))
    found = private_accuracy.configured(config, 'cnn', 'tree', 4.0)
    clip = private_accuracy.CLIPS['cnn']
    assert found.privacy == Tree(target_epsilon=4.0, clip=clip)
    assert found.model.model == 'cnn' and found.training.evaluate_every == 7
    free = private_accuracy.configured(config, 'cnn', 'tree', math.inf)
    assert isinstance(free.privacy, NoPrivacy)
    # Nothing else differs.
    assert (free.model, free.training) == (found.model, found.training)


@pytest.mark.parametrize(
    ('config', 'named'),
    [
        (Config(model=ModelConfig(model='cnn')), 'model'),
        (Config(privacy=Tree(noise_multiplier=1.0)), 'privacy'),
        (Config(training=TrainingConfig(client_learning_rate=1.0)), 'client_learning'),
    ],
)
def test_what_the_study_chooses_is_refused(config, named):
    with pytest.raises(UserError, match=f'chooses {named}.*--starts, --privacies'):
        private_accuracy.check(config, private_accuracy.USUAL)
    with pytest.raises(UserError, match="--privacies has 'dp', but must be of central"):
        private_accuracy.check(Config(), ['tree', 'dp'])


def test_all_kinds_and_starts_fit_together():
    for kind in private_accuracy.KINDS:
        for start in private_accuracy.STARTS:
            private_accuracy.configured(Config(), start, kind, 4.0).check()

"""Values that do not fit together are refused, by name."""

import pytest

from tff_transfer.errors import UserError
from tff_transfer.training.config import (
    Config,
    DataConfig,
    ModelConfig,
    TrainingConfig,
)


def test_the_defaults_are_fit():
    Config().check()


@pytest.mark.parametrize(
    ('config', 'flag'),
    [
        (Config(DataConfig(dataset='by_client')), '--data_path'),
        (
            Config(DataConfig(dataset='synthetic_writers', data_path='x')),
            '--data_path',
        ),
        (
            Config(DataConfig(dataset='synthetic_writers', image_key='x')),
            '--image_key',
        ),
        (Config(DataConfig(data_path='a.sqlite', client_key='x')), '--client_key'),
        (Config(model=ModelConfig(model='cnn', image_size=28)), '--image_size'),
        (Config(DataConfig(dataset='synthetic_alpha_beta')), '--model=mlp'),
        (Config(model=ModelConfig(model='cnn', hidden_units=(3,))), '--hidden_units'),
        (Config(model=ModelConfig(dropout=0.5)), '--dropout'),
        (Config(training=TrainingConfig(rounds=-1)), '--rounds'),
        (Config(training=TrainingConfig(augment_shift=0.1)), '--finetune=head trains'),
        (
            Config(
                model=ModelConfig(finetune='top', top_layers=1),
                training=TrainingConfig(augment_flip=True),
            ),
            '--augment_flip',
        ),
        (
            Config(
                DataConfig(dataset='synthetic_alpha_beta'),
                ModelConfig(model='mlp'),
                TrainingConfig(augment_rotation=5.0),
            ),
            '--augment_rotation',
        ),
        (
            Config(training=TrainingConfig(server_momentum=0.9)),
            '--server_momentum',
        ),
        (
            Config(training=TrainingConfig(runtime='stock', compute_dtype='bfloat16')),
            '--compute_dtype',
        ),
    ],
)
def test_unfit_values_are_one_line_with_the_flag(config, flag):
    with pytest.raises(UserError, match=flag) as caught:
        config.check()
    assert '\n' not in str(caught.value)

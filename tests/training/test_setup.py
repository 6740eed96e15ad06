import numpy as np
import pytest

from tff_transfer.data import federated
from tff_transfer.errors import UserError
from tff_transfer.training import setup
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

CONFIG = Config(
    DataConfig(unseen_fraction=0.0),
    ModelConfig(model='mlp'),
    TrainingConfig(clients_per_round=2),
)


@pytest.mark.parametrize(
    ('y', 'is_test', 'words'),
    [
        ([1, 1, 1, 1], [0, 0, 0, 0], 'all 4 are of one class'),
        # Another class among the test examples alone.
        ([1, 1, 1, 0], [0, 0, 0, 1], 'all 3 are of one class'),
        ([1, 0, 1, 0], [1, 1, 1, 1], 'has none'),
    ],
)
def test_classes_of_one_kind_alone_are_not_trained_on(y, is_test, words):
    data = federated.from_rows(
        'one',
        np.zeros([4, 3]),
        np.array(y),
        np.array(['a', 'a', 'b', 'b']),
        num_classes=2,
        is_test=np.array(is_test, bool),
    )
    with pytest.raises(UserError, match=f'one: .*{words}'):
        setup.prepare(CONFIG, data, None, setup.head_or_network(CONFIG, data, None))

"""TFF issue 910 and the policies against it, on the real backbone and handwriting."""

import pathlib

import pytest

from experiments import batch_norm, strategies
from tff_transfer import runtime
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import FINETUNE, ModelConfig
from tff_transfer.training.sources import load_backbone, load_data
from tff_transfer.training.training_config import TrainingConfig

SHARED = pathlib.Path(__file__).parents[3] / 'shared/data'


def highest(curve):
    return max(accuracy for _, accuracy in curve)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The run that is compared, its clients, and the accuracy without any policy."""
    if not SHARED.is_dir():
        pytest.skip('the real data in ../shared/data are absent')
    config = Config(
        DataConfig(
            dataset='by_client',
            data_path=str(SHARED / 'handwriting_by_writer.npz'),
            max_clients=40,
        ),
        ModelConfig(
            backbone='MobileNetV2_035',
            backbone_weights=str(SHARED / 'mobilenet_v2_035_feature_vector'),
            image_size=64,
        ),
        TrainingConfig(
            rounds=10,
            clients_per_round=5,
            evaluate_every=5,
            server_optimizer='sgd',
            server_learning_rate=1.0,
        ),
    )
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp('cache')
        patch.setenv('TFF_TRANSFER_CACHE_DIR', str(folder))
        data = load_data(config)
        with runtime.use_compiled():
            chosen = batch_norm.at_rate(config, 'aggregate')
            curves = batch_norm.train_stock(chosen, data, load_backbone(config))
        stock, by_batches = map(highest, curves.values())
        # It has learnt, as batches tell, but is evaluated with the statistics it came
        # with.
        assert by_batches > stock + 0.3
        yield config, data, stock


# Each trains all of the network, most of a minute, and all compare with a run that
# takes more than one; that statistics travel and stay as each policy has them is held
# by tests/algorithms/test_batch_norm_processes.py.
@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize('policy', ('frozen', 'aggregate', 'local'))
def test_policies_close_the_gap_that_stock_training_leaves(policy, trained):
    config, data, stock = trained
    chosen = batch_norm.at_rate(config, policy)
    curve = batch_norm.train(chosen, data, policy)
    assert highest(curve) > stock + 0.3


def test_each_strategy_has_its_cells():
    found = strategies.cells(list(FINETUNE))
    assert {strategy for strategy, _, _ in found} == set(FINETUNE)
    assert len(set(found)) == len(found)
    assert strategies.cells(['head']) == [
        ('head', start, 'frozen') for start in ('embedded', 'ImageNet', 'random')
    ]

"""Runs whose training images are augmented."""

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer import backbones, runtime
from tff_transfer.data.augmentation import Augmentation
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.training import loop
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig


def make_data(shape=(6, 6, 1)):
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (60, *shape)).astype(np.uint8)
    if len(shape) == 1:
        x = (x / 255).astype(np.float32)
    y = draw.integers(0, 3, 60).astype(np.int32)
    counts = np.full(6, 8), np.full(6, 2)
    return FederatedData('pictures', x, y, tuple('abcdef'), *counts, 3)


def config(*, model='mlp', finetune='head', head_rounds=None, **training):
    defaults = {
        'rounds': 4,
        'clients_per_round': 3,
        'server_optimizer': 'sgd',
        'server_learning_rate': 1.0,
        'evaluate_every': 2,
        'checkpoint_every': 2,
    }
    return Config(
        DataConfig(),
        ModelConfig(model=model, finetune=finetune, head_rounds=head_rounds),
        TrainingConfig(**{**defaults, **training}),
    )


CHANGES = {'augment_shift': 0.2, 'augment_rotation': 15.0, 'augment_flip': True}


@pytest.mark.slow
def test_training_is_augmented_and_resumes_alike(tmp_path):
    data = make_data()
    plain = loop.train(config(), data=data)
    whole = loop.train(config(**CHANGES), tmp_path / 'run', data=data)
    # Evaluation sees the images as they are.
    assert whole.rows[0]['unseen/loss'] == plain.rows[0]['unseen/loss']
    assert np.abs(whole.weights[0] - plain.weights[0]).max() > 1e-4
    (tmp_path / 'run' / 'checkpoints' / 'round_000004.npz').unlink()
    again = loop.train(config(**CHANGES), tmp_path / 'run', data=data)
    for ours, theirs in zip(whole.weights, again.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_second_stage_alone_is_augmented(tmp_path, monkeypatch):
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path))
    images = tf.keras.Input((6, 6, 3))
    x = tf.keras.layers.Conv2D(4, 3)(images)
    x = tf.keras.layers.GlobalAveragePooling2D()(x)
    backbone = backbones.load(tf.keras.Model(images, x))
    chosen = config(
        model='backbone', finetune='head_then_all', head_rounds=1, **CHANGES
    )
    with runtime.use_compiled():
        data = make_data()
        head = loop.head_or_network(chosen, data, backbone)
        setup = loop.prepare(chosen, data, backbone, head)
    assert setup.augment == Augmentation(0.2, 15.0, flip=True)
    assert setup.first.augment is None


def test_vectors_are_refused():
    with pytest.raises(UserError, match='pictures has vectors') as told:
        loop.train(config(augment_brightness=0.1), data=make_data((5,)))
    assert '--augment_shift' in str(told.value)

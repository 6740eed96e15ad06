import dataclasses
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from experiments import pretrain_backbone
from tff_transfer import backbones
from tff_transfer.backbones import pretraining

REPOSITORY = pathlib.Path(__file__).parents[2]
TINY = pretraining.Settings(examples=96, cycles=1, image_size=32, batch_size=32)


def _weights(training):
    return training.network.get_weights() + training.head.get_weights()


@pytest.mark.slow
@pytest.mark.walk
def test_goes_on_from_a_checkpoint_as_if_never_stopped(tmp_path, monkeypatch):
    # 164 pictures at a time are 5 batches: the second start is within them.
    monkeypatch.setattr(pretrain_backbone, 'WRITERS_AT_A_TIME', 2)
    one = dataclasses.replace(TINY, network='MobileNet_025')
    two = dataclasses.replace(one, cycles=2)
    whole, seconds = pretrain_backbone.train(two, tmp_path / 'whole')
    assert seconds > 0
    pretrain_backbone.train(one, tmp_path / 'parts')
    parts, more_seconds = pretrain_backbone.train(two, tmp_path / 'parts')
    assert int(parts.optimizer.iterations) == 3 + 6
    assert more_seconds > 0
    for a, b in zip(_weights(whole), _weights(parts), strict=True):
        assert a == pytest.approx(b, abs=1e-4)


@pytest.mark.slow
@pytest.mark.walk
@pytest.mark.parametrize('name', ['ResNet18', 'ResNet18GroupNorm'])
def test_another_network_is_trained(name, tmp_path):
    settings = dataclasses.replace(TINY, network=name)
    first = pretraining.Pretraining(settings).network.get_weights()
    training, _ = pretrain_backbone.train(settings, tmp_path / 'checkpoints')
    moved = [
        np.abs(new - old).max()
        for new, old in zip(training.network.get_weights(), first, strict=True)
    ]
    assert min(moved) > 0
    pretraining.export(training.network, name, tmp_path / 'model')
    x, _ = pretraining.writers_examples(1, 0, 1)
    expected = training.network(pretraining.to_inputs(x[:4], 32), training=False)
    whole = backbones.load(tmp_path / 'model', image_size=32)
    by_name = backbones.load(name, weights=str(tmp_path / 'model'), image_size=32)
    assert whole.feature_size == by_name.feature_size == 512
    for backbone in (whole, by_name):
        np.testing.assert_allclose(backbone(x[:4]), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_writes_a_model_and_its_card(tmp_path):
    data = tmp_path / 'real.npz'
    draw = np.random.default_rng(0)
    np.savez(
        data,
        pixels=draw.integers(0, 256, (300, 28, 28), np.uint8),
        label=np.arange(300) % 3,
        writer=np.arange(300) // 6,
    )
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'experiments.pretrain_backbone'),
            *('--examples=64', '--cycles=1', '--image_size=32', '--batch_size=32'),
            *(f'--output={tmp_path}/out', f'--probe_data={data}'),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    model = tmp_path / 'out' / f'{pretraining.NETWORK}_characters'
    loaded = tf.saved_model.load(str(model))
    assert loaded(tf.zeros((2, 40, 40, 3)), training=False).shape == (2, 1280)
    card = (tmp_path / 'out' / 'MODEL_CARD.md').read_text()
    assert 'on 64 pictures' in card
    assert '--examples=64' in card and '--cycles=1' in card
    assert '| fresh weights, ink dark on white |' in card
    assert f'written: {model}' in done.stdout


@pytest.mark.parametrize(
    'flag, message',
    [
        pytest.param('--examples=1', '--examples', marks=pytest.mark.walk),
        pytest.param('--image_size=20', '--image_size', marks=pytest.mark.walk),
        pytest.param('--probe_data=nowhere.npz', 'nowhere.npz', marks=pytest.mark.walk),
        pytest.param('--seed=-1', '--seed', marks=pytest.mark.walk),
        pytest.param('--network=ResNet19', '--network', marks=pytest.mark.walk),
        ('--network=InceptionV3', 'at least 75x75'),
    ],
)
@pytest.mark.slow
def test_bad_flags_are_one_line(flag, message, tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, '-m', 'experiments.pretrain_backbone'),
            *(flag, f'--output={tmp_path}/out'),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith('error')]
    assert len(errors) == 1 and message in errors[0]
    assert not (tmp_path / 'out').exists()

"""Data as a configuration names them."""

import os

import numpy as np
import PIL.Image
import pytest

from tff_transfer.errors import UserError
from tff_transfer.training import loop, sources
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.sources import load_backbone, load_data
from tff_transfer.training.training_config import TrainingConfig


def save(folder, sides):
    """Writes grey images of two classes and three clients into a folder."""
    for client in (b'ann', b'bob', b'caf\xe9'):
        for label in (b'owl', b'cat'):
            place = os.path.join(os.fsencode(folder), client, label)
            os.makedirs(place)
            for i, side in enumerate(sides):
                image = PIL.Image.new('L', (side + 1, side), 50 * i)
                with open(place + b'/%d.png' % i, 'wb') as file:
                    image.save(file, format='PNG')


def configured(path, keys=None, **model):
    data = DataConfig('by_client', os.fsdecode(path), **(keys or {}))
    training = TrainingConfig(rounds=1, clients_per_round=2)
    config = Config(data, ModelConfig(**model), training)
    config.check()
    return config


def test_keys_of_a_file_are_named_as_flags(tmp_path):
    np.savez(
        tmp_path / 'a.npz',
        a=np.zeros([4, 3, 3], np.uint8),
        b=np.ones([4, 3, 3], np.uint8),
        c=np.array([5, 6, 6, 5]),
        d=np.array([0, 0, 1, 1]),
    )
    with pytest.raises(UserError, match=r'--image_key \(image_key= in Python\)'):
        load_data(configured(tmp_path / 'a.npz'))
    keys = {'image_key': 'b', 'label_key': 'd', 'client_key': 'c'}
    data = load_data(configured(tmp_path / 'a.npz', keys))
    assert data.client_ids == ('5', '6') and data.x.min() == 1
    assert sorted(data.y[:2]) == sorted(data.y[2:]) == [0, 1]


def test_images_of_mixed_size_become_as_large_as_the_backbone_s(tmp_path):
    save(tmp_path, (40, 70, 50))
    config = configured(tmp_path)
    backbone = load_backbone(config)
    assert load_data(config, backbone).x.shape[1:3] == backbone.image_size
    with pytest.raises(UserError, match=r'51 x 50|71 x 70.*--image_size'):
        load_data(config)


def test_images_of_one_size_stay_as_they_are(tmp_path):
    save(tmp_path, (40, 40))
    config = configured(tmp_path)
    assert load_data(config, load_backbone(config)).x.shape[1:3] == (40, 41)


def test_image_size_without_a_backbone_is_for_images_of_mixed_size(tmp_path):
    save(tmp_path / 'mixed', (12, 16))
    config = configured(tmp_path / 'mixed', model='cnn', image_size=14)
    assert load_data(config).x.shape[1:] == (14, 14, 1)
    save(tmp_path / 'equal', (12, 12))
    config = configured(tmp_path / 'equal', model='cnn', image_size=14)
    with pytest.raises(UserError, match=r'--image_size=14 .* \(12, 13, 1\).*leave it'):
        load_data(config)


@pytest.mark.slow
def test_a_run_on_files_whose_names_are_no_utf_8(tmp_path):
    folder = os.fsencode(tmp_path) + b'/d\xe9p'
    save(folder, (8, 9, 10, 11))
    config = configured(folder, model='mlp', image_size=4)
    result = loop.train(config, tmp_path / 'run')
    assert result.setup.data.client_ids[2] == 'caf\\xe9'
    report = (tmp_path / 'run/report.html').read_text(encoding='utf-8')
    assert 'd\\xe9p' in report and 'caf\\xe9' in report
    loop.train(config, tmp_path / 'run')


def test_what_is_loaded_in_a_block_is_kept_in_it(tmp_path):
    save(tmp_path, [8])
    config = configured(tmp_path, model='cnn')
    first = load_data(config)
    with sources.kept():
        kept = load_data(config)
        assert load_data(config) is kept
        fewer = configured(tmp_path, {'max_clients': 2}, model='cnn')
        assert len(load_data(fewer)) == 2 and len(load_data(config)) == 3
    assert load_data(config) is not kept
    assert kept.content_fingerprint == first.content_fingerprint

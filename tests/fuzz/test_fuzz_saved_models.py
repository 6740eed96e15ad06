"""SavedModels and archives of them with damage: the same features, or one line."""

import tarfile

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer import backbones

pytestmark = pytest.mark.slow

FILES = (
    'saved_model.pb',
    'fingerprint.pb',
    'variables/variables.index',
    'variables/variables.data-00000-of-00001',
)


class Means(tf.Module):
    """Means of the channels times a matrix, as a feature vector."""

    def __init__(self):
        super().__init__()
        matrix = np.random.default_rng(0).normal(size=(3, 40))
        self.matrix = tf.Variable(matrix, dtype=tf.float32)
        self.shift = tf.Variable(tf.ones(40))

    def features(self, images):
        return tf.reduce_mean(images, [1, 2]) @ self.matrix + 0.5 * self.shift


def read_from_files():
    """A module that this package reads from its files."""
    module = Means()
    specs = [tf.TensorSpec([None, None, None, 3])]
    module.__call__ = tf.function(module.features, input_signature=specs)
    return module


def read_by_the_loader():
    """A module with a signature alone, which TensorFlow's loader reads."""
    module = Means()
    module.features = tf.function(
        module.features, input_signature=[tf.TensorSpec([None, 8, 8, 3])]
    )
    return module


@pytest.fixture(params=[read_from_files, read_by_the_loader])
def folder(request, tmp_path):
    module = request.param()
    signatures = module.features if request.param is read_by_the_loader else None
    tf.saved_model.save(module, str(tmp_path / 'm'), signatures=signatures)
    return tmp_path / 'm'


def judge_of(handle):
    """Returns how to read a handle, and to say that its features are the same."""

    def load():
        return backbones.load(handle, image_size=8).fingerprint

    whole = load()

    def judge(found, _):
        assert found == whole
        return 'right'

    return load, judge


@pytest.mark.parametrize('name', FILES)
def test_saved_model(folder, fuzz, name):
    load, judge = judge_of(folder)
    fuzz.damage('SavedModel', folder / name, load, judge, 60)


@pytest.mark.parametrize(('suffix', 'mode'), [('.tar.gz', 'w:gz'), ('.tar', 'w')])
def test_archive(folder, tmp_path, fuzz, suffix, mode):
    path = tmp_path / f'm{suffix}'
    with tarfile.open(path, mode) as file:
        file.add(folder, arcname='.')
    load, judge = judge_of(path)
    fuzz.damage(f'archive {suffix}', path, load, judge, 100)

"""SavedModels and archives whose bytes are not those that were saved."""

import os
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import fingerprint_pb2

from tff_transfer import backbones
from tff_transfer.backbones import saved_checksums
from tff_transfer.errors import UserError


class Scaled(tf.Module):
    """Means of the channels, times a constant of the graph."""

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def __call__(self, images):
        return tf.reduce_mean(images, [1, 2]) * tf.constant([3.0, 5.0, 7.0])


@pytest.fixture
def folder(tmp_path):
    tf.saved_model.save(Scaled(), str(tmp_path / 'm'))
    return tmp_path / 'm'


def replace(path, old, new):
    content = path.read_bytes()
    assert content.count(old) and len(old) == len(new)
    path.write_bytes(content.replace(old, new))


def error(handle) -> str:
    with pytest.raises(UserError) as info:
        backbones.load(handle, image_size=8)
    assert '\n' not in str(info.value)
    return str(info.value)


def test_a_changed_constant_is_noticed(folder):
    saved_checksums.check(folder)
    old, new = np.array([5, 9], '<f4')
    replace(folder / 'saved_model.pb', old.tobytes(), new.tobytes())
    assert 'not those that fingerprint.pb was saved with' in error(folder)
    # As the line says: who changed it on purpose deletes the file.
    (folder / 'fingerprint.pb').unlink()
    found = backbones.load(folder, image_size=8)(np.ones((1, 8, 8, 3), np.float32))
    np.testing.assert_allclose(found, [[3, 9, 7]], rtol=1e-6)


@pytest.mark.parametrize('missing', ['f', 'config_proto'])
def test_a_call_without_its_function_is_noticed(folder, missing):
    """TensorFlow's own hash ends the process on it."""
    length = bytes([len(missing)])
    replace(
        folder / 'saved_model.pb',
        b'\n' + length + missing.encode(),
        b'\n' + length + b'?' * len(missing),
    )
    assert 'not those that fingerprint.pb was saved with' in error(folder)


def test_the_hash_of_another_version_is_not_compared(folder):
    file = folder / 'fingerprint.pb'
    stored = fingerprint_pb2.FingerprintDef.FromString(file.read_bytes())
    stored.saved_model_checksum ^= 1
    file.write_bytes(stored.SerializeToString())
    assert 'is broken' in error(folder)
    stored.version.producer += 1
    file.write_bytes(stored.SerializeToString())
    assert backbones.load(folder, image_size=8).feature_size == 3


def test_a_graph_that_tensorflow_refuses_is_one_line(folder):
    (folder / 'fingerprint.pb').unlink()
    replace(folder / 'saved_model.pb', b'\x12\x04Mean', b'\x12\x04Moan')
    assert 'Moan' in error(folder)


def archive(folder, path):
    with tarfile.open(path, 'w:gz') as file:
        file.add(folder, arcname='.')
    return path


def test_the_checksum_at_the_end_of_an_archive_counts(folder, tmp_path):
    path = archive(folder, tmp_path / 'm.tar.gz')
    assert backbones.load(path, image_size=8).feature_size == 3
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # of the CRC-32
    path.write_bytes(content)
    assert 'CRC check failed' in error(path)


def test_what_does_not_fit_on_the_disk_is_not_unpacked(folder, tmp_path, monkeypatch):
    path = archive(folder, tmp_path / 'm.tar.gz')
    full = os.statvfs_result((4096, 4096, 1000, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr('os.statvfs', lambda _: full)
    assert 'does not fit on the disk' in error(path)

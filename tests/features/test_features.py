import errno
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from tff_transfer import backbones, features, runtime
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.features import cache as features_cache
from tff_transfer.features import file_format, standardising


def population(rows=23, seed=0, clients=3):
    draw = np.random.default_rng(seed)
    x = draw.integers(0, 256, (rows, 4, 4, 1)).astype(np.uint8)
    counts = np.bincount(np.arange(rows) % clients, minlength=clients)
    return FederatedData(
        'noise',
        x,
        np.zeros(rows, np.int32),
        tuple(map(str, range(clients))),
        counts - counts // 4,
        counts // 4,
        1,
    )


def constant_model(scale=1.0):
    """Gives the mean of each image, and its multiple."""
    images = tf.keras.Input((4, 4, 3))
    mean = tf.keras.layers.GlobalAveragePooling2D()(images)
    dense = tf.keras.layers.Dense(2, use_bias=False)
    model = tf.keras.Model(images, dense(mean))
    dense.kernel.assign(np.array([[1, scale], [0, 0], [0, 0]]))
    return model


@pytest.fixture(scope='module')
def backbone():
    return backbones.load(constant_model(3.0))


def by_hand(data):
    means = data.x.mean((1, 2, 3)) / 255
    return np.stack([means, 3 * means], 1)


class Counting:
    """A backbone that counts the images it sees, and may stop in the middle."""

    def __init__(self, backbone, stop_after=None, error=KeyboardInterrupt):
        self.backbone = backbone
        self.images = 0
        self.stop_after = stop_after
        self.error = error

    def __getattr__(self, name):
        return getattr(self.backbone, name)

    def __call__(self, images):
        self.images += len(images)
        if self.stop_after is not None and self.images > self.stop_after:
            raise self.error
        return self.backbone(images)


def cached(folder) -> pathlib.Path:
    (path,) = folder.glob('features/*.npy')
    return path


def leftovers(folder):
    return [p.name for p in folder.glob('features/.*')]


@pytest.mark.parametrize('batch_size', [1, 7, 23, 64])
def test_features_of_all_rows_in_order(tmp_path, backbone, batch_size):
    data = population()
    found = features.extract(backbone, data, cache_dir=tmp_path, batch_size=batch_size)
    assert isinstance(found, np.memmap) and not found.flags.writeable
    assert found.dtype == np.float32 and found.shape == (23, 2)
    np.testing.assert_allclose(found, by_hand(data), rtol=1e-5)
    # Any program reads the file.
    np.testing.assert_array_equal(np.load(cached(tmp_path)), found)
    assert leftovers(tmp_path) == []


def test_each_image_is_seen_once(tmp_path, backbone):
    data, counting = population(), Counting(backbone)
    one = features.extract(counting, data, cache_dir=tmp_path)
    two = features.extract(counting, data, cache_dir=tmp_path)
    assert counting.images == 23
    np.testing.assert_array_equal(one, two)


def test_no_examples(tmp_path, backbone):
    assert features.extract(backbone, population(0), cache_dir=tmp_path).shape == (0, 2)


def test_other_data_or_another_backbone_are_extracted_anew(tmp_path, backbone):
    features.extract(backbone, population(), cache_dir=tmp_path)
    other = population(seed=1)
    found = features.extract(backbone, other, cache_dir=tmp_path)
    np.testing.assert_allclose(found, by_hand(other), rtol=1e-5)
    changed = backbones.load(constant_model(4.0))
    found = features.extract(changed, other, cache_dir=tmp_path)
    np.testing.assert_allclose(found[:, 1], 4 * found[:, 0], rtol=1e-5)
    assert len(list(tmp_path.glob('features/*.npy'))) == 3


def test_cache_stands_where_the_environment_says(tmp_path, backbone, monkeypatch):
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'mine'))
    features.extract(backbone, population())
    assert cached(tmp_path / 'mine').exists()


def truncated(content):
    return content[: len(content) // 2]


def without_checksum(content):
    return content[:-32]


def one_bit_changed(content):
    return content[:140] + bytes([content[140] ^ 1]) + content[141:]


def another_header(content):
    return content.replace(b'(23, 2)', b'(2, 23)')


def nothing(content):
    return b''


@pytest.mark.parametrize(
    'harm', [truncated, without_checksum, one_bit_changed, another_header, nothing]
)
def test_broken_file_is_made_again(tmp_path, backbone, harm):
    data, counting = population(), Counting(backbone)
    features.extract(counting, data, cache_dir=tmp_path)
    path = cached(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(harm(whole))
    found = features.extract(counting, data, cache_dir=tmp_path)
    assert counting.images == 46
    np.testing.assert_allclose(found, by_hand(data), rtol=1e-5)
    assert path.read_bytes() == whole


@pytest.mark.parametrize('error', [KeyboardInterrupt, MemoryError])
def test_interrupted_work_leaves_nothing(tmp_path, backbone, error):
    data = population()
    stopping = Counting(backbone, stop_after=12, error=error)
    with pytest.raises(error):
        features.extract(stopping, data, cache_dir=tmp_path, batch_size=4)
    assert list(tmp_path.glob('features/*.npy')) == leftovers(tmp_path) == []
    found = features.extract(backbone, data, cache_dir=tmp_path)
    np.testing.assert_allclose(found, by_hand(data), rtol=1e-5)


def test_what_a_killed_process_left_is_removed(tmp_path, backbone):
    data = population()
    features.extract(backbone, data, cache_dir=tmp_path)
    path = cached(tmp_path)
    path.unlink()
    left = path.parent / f'.{path.name}-abc'
    left.mkdir()
    (left / path.name).write_bytes(b'half')
    features.extract(backbone, data, cache_dir=tmp_path)
    assert leftovers(tmp_path) == []


def test_data_without_images_are_refused(tmp_path, backbone):
    data = population().with_x(np.zeros((23, 5), np.float32))
    with pytest.raises(UserError, match='are no images'):
        features.extract(backbone, data, cache_dir=tmp_path)


def test_features_that_are_not_finite_are_refused(tmp_path, backbone):
    x = population().x / np.float32(255)
    x[9, 0, 0] = np.nan
    with pytest.raises(UserError, match='not finite for images 8 to 11; check'):
        features.extract(
            backbone, population().with_x(x), cache_dir=tmp_path, batch_size=4
        )
    assert list(tmp_path.glob('features/*.npy')) == []


def message(*arguments, **named) -> str:
    with pytest.raises(UserError) as info:
        features.extract(*arguments, **named)
    assert '\n' not in str(info.value)
    assert 'TFF_TRANSFER_CACHE_DIR' in str(info.value)
    return str(info.value)


def test_cache_that_is_a_file(tmp_path, backbone):
    (tmp_path / 'features').write_text('')
    counting = Counting(backbone)
    told = message(counting, population(), cache_dir=tmp_path)
    assert f'{tmp_path}/features (File exists)' in told
    assert counting.images == 0


def test_cache_without_the_right_to_write(tmp_path, backbone, monkeypatch):
    # Root may write anywhere, so that the system's answer is played.
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(features_cache, 'open', refuse, raising=False)
    assert 'Permission denied' in message(backbone, population(), cache_dir=tmp_path)


def test_cache_that_may_only_be_read_serves(tmp_path, backbone, monkeypatch):
    features.extract(backbone, population(), cache_dir=tmp_path)
    monkeypatch.setattr(features_cache, '_only_process', None)
    found = features.extract(backbone, population(), cache_dir=tmp_path)
    assert found.shape == (23, 2)


def test_disk_without_room_is_told_before_work(tmp_path, backbone, monkeypatch):
    usage = file_format.shutil.disk_usage(tmp_path)._replace(free=23 * 2 * 4 - 1)
    monkeypatch.setattr(file_format.shutil, 'disk_usage', lambda path: usage)
    counting = Counting(backbone)
    assert 'too full' in message(counting, population(), cache_dir=tmp_path)
    assert counting.images == 0


class Full:
    """A file on a disk that gets full after some bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, content):
        self.room -= len(bytes(content))
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(content)


def test_disk_that_gets_full(tmp_path, backbone, monkeypatch):
    def limited(path, mode='r'):
        file = open(path, mode)  # noqa: SIM115
        return Full(file, 150) if mode == 'wb' else file

    monkeypatch.setattr(file_format, 'open', limited, raising=False)
    told = message(backbone, population(), cache_dir=tmp_path, batch_size=4)
    assert 'No space left on device' in told
    assert list(tmp_path.glob('features/*.npy')) == leftovers(tmp_path) == []


_PROCESS = """
import sys, time
import numpy as np
sys.path.insert(0, {tests!r})
import test_features as t
from tff_transfer import backbones, features
class Slow(t.Counting):
    def __call__(self, images):
        time.sleep({pause})
        return super().__call__(images)
slow = Slow(backbones.load(t.constant_model(3.0)))
print('ready', flush=True)
sys.stdin.readline()
found = features.extract(slow, t.population(), cache_dir={cache!r}, batch_size=4)
print(slow.images, np.allclose(found, t.by_hand(t.population())), flush=True)
"""


def start_process(cache, pause):
    code = _PROCESS.format(
        tests=str(pathlib.Path(__file__).parent), cache=str(cache), pause=pause
    )
    return subprocess.Popen(
        [sys.executable, '-c', code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_at_once_extract_once(tmp_path):
    both = [start_process(tmp_path, 0.3) for _ in range(2)]
    for process in both:
        assert process.stdout.readline() == 'ready\n'
    for process in both:
        process.stdin.write('\n')
        process.stdin.flush()
    ends = sorted(process.communicate(timeout=60)[0].strip() for process in both)
    assert ends == ['0 True', '23 True']


@pytest.mark.slow
def test_killed_process_leaves_no_wrong_file(tmp_path, backbone):
    process = start_process(tmp_path, 1.0)
    assert process.stdout.readline() == 'ready\n'
    process.stdin.write('\n')
    process.stdin.flush()
    end = time.monotonic() + 30
    while not leftovers(tmp_path) and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(1.5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert leftovers(tmp_path)
    counting = Counting(backbone)
    found = features.extract(counting, population(), cache_dir=tmp_path)
    assert counting.images == 23
    np.testing.assert_allclose(found, by_hand(population()), rtol=1e-5)
    assert leftovers(tmp_path) == []


def vectors(sizes=(5, 0, 300, 1), test=2, width=4, seed=0):
    """Clients with `sizes` training examples, and test examples far away from them."""
    draw = np.random.default_rng(seed)
    parts = []
    for size in sizes:
        parts += [draw.normal(3, 2, (size, width)), draw.normal(1e6, 1, (test, width))]
    x = np.concatenate(parts).astype(np.float32)
    x[:, 1] = 0.1
    return FederatedData(
        'vectors',
        x,
        np.zeros(len(x), np.int32),
        tuple(f'c{i}' for i in range(len(sizes))),
        np.array(sizes),
        np.full(len(sizes), test),
        1,
    )


@pytest.fixture(scope='module')
def stock():
    with runtime.use_stock():
        yield


@pytest.mark.parametrize('clients', [[0, 1, 2], [3, 2], np.array([2]), [0, 1, 2, 3]])
def test_statistics_are_numpys(stock, clients):
    data = vectors()
    found = features.standardisation(data, clients)
    x = np.concatenate([data.x[data.train_rows(c)] for c in clients]).astype(float)
    deviation = x.std(0)
    deviation[1] = 1
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.deviation, deviation, rtol=1e-6)
    assert found.mean.dtype == found.deviation.dtype == np.float32
    standardised = found(x.astype(np.float32))
    assert standardised.dtype == np.float32
    np.testing.assert_allclose(standardised.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(standardised.std(0), [1, 0, 1, 1], atol=1e-5)


def test_one_example_has_no_deviation(stock):
    data = vectors()
    found = features.standardisation(data, [3])
    np.testing.assert_array_equal(found.deviation, 1)
    np.testing.assert_array_equal(found.mean, data.x[data.train_rows(3)][0])


def test_blocks_of_clients_give_the_same(stock, monkeypatch):
    data = vectors(sizes=(5, 7, 0, 30, 2, 40))
    whole = features.standardisation(data, range(6))
    monkeypatch.setattr(standardising, '_BYTES_OF_A_BLOCK', 10 * 4 * 4)
    blocks = features.standardisation(data, range(6))
    np.testing.assert_allclose(blocks.mean, whole.mean, rtol=1e-7)
    np.testing.assert_allclose(blocks.deviation, whole.deviation, rtol=1e-7)


def test_no_training_examples(stock):
    with pytest.raises(UserError, match='none of 1 clients has training examples'):
        features.standardisation(vectors(), [1])


def test_standardises_inside_a_graph():
    standardise = features.Standardisation(
        np.array([1, 2], np.float32), np.array([2, 4], np.float32)
    )
    traced = tf.function(standardise)(tf.constant([[3.0, 6.0]]))
    np.testing.assert_array_equal(traced, [[1, 1]])


def test_one_scale_is_the_root_mean_square():
    made = features.Standardisation(
        np.array([1, 2], np.float32), np.array([3, 4], np.float32)
    )
    found = made.of_one_scale()(np.array([[1.0, 7.0]], np.float32))
    np.testing.assert_allclose(found, [[0, 5 / 12.5**0.5]], rtol=1e-6)


def test_features_of_images_that_no_cache_has(backbone):
    data = population(70)
    found = features.of_images(backbone, data.x)
    np.testing.assert_allclose(found, by_hand(data), rtol=1e-5)
    assert features.of_images(backbone, data.x[:0]).shape == (0, 2)

import lzma
import time
import urllib.error
import urllib.request

import numpy as np
import pytest

from tff_transfer.data import emnist, federated, sqlite


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The folder of a database with the numbers of clients that `load` looks for."""
    draw = np.random.default_rng(0)
    y = np.tile(np.arange(62), 4)
    is_test = np.arange(248) >= 124
    data = federated.from_rows(
        'small',
        draw.integers(0, 256, (248, 28, 28)).astype(np.uint8),
        y,
        np.arange(248) // 62 % 2,
        is_test=is_test,
    )
    sqlite.write(data, tmp_path / 'emnist_all.sqlite')
    monkeypatch.setattr(emnist, '_CLIENTS', {'digits_only_': 2, 'all_': 2})
    monkeypatch.setattr(
        emnist, '_EXAMPLES', {'digits_only_': (20, 20), 'all_': (124, 124)}
    )
    return tmp_path


def test_digits_and_characters(small):
    digits = emnist.load(path=small)
    assert digits.num_classes == 10 and digits.class_names == tuple('0123456789')
    assert digits.x.shape == (40, 28, 28, 1) and digits.x.dtype == np.uint8
    assert digits.num_train.tolist() == [10, 10] == digits.num_test.tolist()
    every = emnist.load(only_digits=False, cache_dir=small)
    assert every.num_classes == 62 and len(every.y) == 248
    assert [every.class_names[i] for i in (9, 10, 35, 36, 61)] == list('9AZaz')


def test_a_packed_database_is_unpacked(small):
    database = small / 'emnist_all.sqlite'
    packed = small / 'emnist_all.sqlite.lzma'
    packed.write_bytes(lzma.compress(database.read_bytes(), preset=0))
    expected = emnist.load(path=database)
    for path in (small, packed):
        database.unlink(missing_ok=True)
        np.testing.assert_array_equal(emnist.load(path=path).x, expected.x)


def test_a_truncated_packed_database_is_refused(small, refused):
    database = small / 'emnist_all.sqlite'
    packed = small / 'emnist_all.sqlite.lzma'
    packed.write_bytes(lzma.compress(database.read_bytes(), preset=0)[:-1000])
    database.unlink()
    with refused(packed, 'cannot be unpacked'):
        emnist.load(path=small)
    assert not database.exists()


def test_a_truncated_cache_is_found_out_before_use(small, refused):
    database = small / 'emnist_all.sqlite'
    database.write_bytes(database.read_bytes()[:100_000])
    for options in ({'cache_dir': small}, {'path': database}):
        with refused(database, 'truncated', 'delete it'):
            emnist.load(**options)


def test_another_database_is_refused(small, refused, monkeypatch):
    monkeypatch.setattr(emnist, '_CLIENTS', {'digits_only_': 3383})
    with refused(small / 'emnist_all.sqlite', 'not federated EMNIST', '3,383'):
        emnist.load(cache_dir=small)


def test_missing_examples_are_found(small, refused, monkeypatch):
    monkeypatch.setattr(emnist, '_EXAMPLES', {'digits_only_': (21, 20)})
    with refused(small / 'emnist_all.sqlite', '(20, 20)', '(21, 20)'):
        emnist.load(cache_dir=small)


def test_a_folder_without_it_is_refused(tmp_path, refused):
    with refused(tmp_path, 'holds no emnist_all.sqlite'):
        emnist.load(path=tmp_path)
    with refused(tmp_path / 'none.sqlite', 'cannot be read'):
        emnist.load(path=tmp_path / 'none.sqlite')


def test_offline_is_one_line_with_the_ways_out(tmp_path, refused, monkeypatch):
    def fail(*args, **kwargs):
        raise urllib.error.URLError('Name or service not known')

    monkeypatch.setattr(urllib.request, 'urlopen', fail)
    with refused(
        tmp_path, 'Name or service', 'path of a copy', 'by_client', 'synthetic writers'
    ):
        emnist.load(cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_says_nothing_is_given_up(tmp_path, refused, monkeypatch):
    def slow(*arguments, **named):
        time.sleep(30)
        raise OSError('too late')

    monkeypatch.setattr(urllib.request, 'urlopen', slow)
    monkeypatch.setattr(emnist, '_PROBE_SECONDS', 0.1)
    start = time.monotonic()
    with refused(tmp_path, 'no answer'):
        emnist.load(cache_dir=tmp_path)
    assert time.monotonic() - start < 5


class _Answer:
    """What `urlopen` returns, for TFF's download."""

    def __init__(self, content):
        self.content = content
        self.headers = {'content-length': str(len(content))}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def read(self, size):
        part, self.content = self.content[:size], self.content[size:]
        return part


@pytest.mark.parametrize('lost', [0, 5000])
def test_a_download_is_checked_before_it_is_kept(
    small, refused, monkeypatch, tmp_path_factory, lost
):
    packed = lzma.compress((small / 'emnist_all.sqlite').read_bytes(), preset=0)
    packed = packed[: len(packed) - lost]
    monkeypatch.setattr(urllib.request, 'urlopen', lambda *a, **k: _Answer(packed))
    cache = tmp_path_factory.mktemp('cache')
    if lost:
        with refused(cache / 'emnist_all.sqlite', 'download', 'failed'):
            emnist.load(cache_dir=cache)
        assert list(cache.iterdir()) == []
    else:
        assert len(emnist.load(cache_dir=cache).y) == 40
        assert [f.name for f in cache.iterdir()] == ['emnist_all.sqlite']

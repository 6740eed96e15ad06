"""The cache of features: fewer bytes, and what is listed, verified and removed."""

import fcntl
import os
import time

import numpy as np
import pytest

from tff_transfer.errors import UserError
from tff_transfer.features import cache, file_format

VALUES = (np.random.default_rng(0).gamma(2, [1, 30, 1e-3], (50, 3))).astype(np.float32)
VALUES[:, 1] = 7  # constant


def make(folder, key='k', dtype='float32', values=VALUES, data='noise'):
    return cache.get_or_make(
        key,
        values.shape,
        lambda: (part for part in np.array_split(values, 7)),
        dtype=dtype,
        what={'backbone': 'net', 'data': data},
        cache_dir=folder,
    )


def test_float16_is_the_nearest_one(tmp_path):
    for _ in range(2):  # made, and read
        found = make(tmp_path, dtype='float16')
        assert found.dtype == found[:3].dtype == np.float32
        assert found.shape == (50, 3) and found.ndim == 2 and len(found) == 50
        expected = VALUES.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(found[[5, 2]], expected[[5, 2]])
        np.testing.assert_array_equal(np.asarray(found), expected)


def test_uint8_is_off_by_half_a_step_at_most(tmp_path):
    for _ in range(2):
        found = make(tmp_path, dtype='uint8')
        assert found.stored.dtype == np.uint8 and found[0].dtype == np.float32
        steps = (VALUES.max(0) - VALUES.min(0)) / 255
        off = np.abs(found[:] - VALUES)
        assert (off <= 0.5001 * steps + 1e-6 * VALUES.max(0)).all()
        # Not better than it can be, so that it was measured.
        assert off[:, 0].max() > 0.3 * steps[0]
        np.testing.assert_array_equal(found[:][:, 1], 7)
        # The ends of each range are themselves.
        highest = VALUES[:, 0].argmax()
        np.testing.assert_allclose(found[highest][0], VALUES[highest, 0], rtol=1e-6)


def test_activations_of_more_axes(tmp_path):
    values = np.random.default_rng(1).normal(size=(20, 4, 5, 3)).astype(np.float32)
    found = make(tmp_path, dtype='uint8', values=values)
    assert found.step.shape == (3,)
    steps = (values.max((0, 1, 2)) - values.min((0, 1, 2))) / 255
    assert (np.abs(found[:] - values) <= 0.5001 * steps).all()


@pytest.mark.parametrize('dtype', file_format.DTYPES)
def test_sizes_on_disk(tmp_path, dtype):
    values = np.ones((3000, 40), np.float32)
    make(tmp_path, dtype=dtype, values=values)
    (entry,) = cache.entries(tmp_path)
    assert entry.bytes == pytest.approx(
        values.size * np.dtype(dtype).itemsize, abs=2000
    )
    assert entry.what == {
        'backbone': 'net',
        'data': 'noise',
        'shape': [3000, 40],
        'dtype': dtype,
    }


def test_dtypes_do_not_share_a_file(tmp_path):
    for dtype in file_format.DTYPES:
        make(tmp_path, dtype=dtype)
    assert len(cache.entries(tmp_path)) == 3


def test_no_examples(tmp_path):
    found = make(tmp_path, dtype='uint8', values=VALUES[:0])
    assert found[:].shape == (0, 3)


def test_float16_that_overflows_is_refused(tmp_path):
    with pytest.raises(UserError, match='beyond what float16 holds'):
        make(tmp_path, dtype='float16', values=VALUES * np.float32(1e5))
    assert cache.entries(tmp_path) == []


def age(folder, key_order):
    """Makes files the older, the earlier they stand in the order."""
    for days, path in zip(range(len(key_order), 0, -1), key_order, strict=True):
        then = time.time() - 86400 * days
        os.utime(path, (then, then))


@pytest.fixture
def three(tmp_path):
    paths = []
    for key in 'abc':
        make(tmp_path, key, data=key)
        (path,) = {e.path for e in cache.entries(tmp_path)} - set(paths)
        paths.append(path)
    age(tmp_path, paths)
    return paths


def names(entries):
    return [entry.what and entry.what['data'] for entry in entries]


def test_reading_counts_as_use(tmp_path, three):
    assert names(cache.entries(tmp_path)) == ['a', 'b', 'c']
    make(tmp_path, 'a')
    assert names(cache.entries(tmp_path)) == ['b', 'c', 'a']


def test_prune_without_options_removes_what_is_broken(tmp_path, three):
    content = bytearray(three[1].read_bytes())
    content[-40] ^= 1
    three[1].write_bytes(content)
    three[2].write_bytes(three[2].read_bytes()[:100])
    whole = [cache.is_whole(e) for e in cache.entries(tmp_path)]
    assert sorted(whole) == [False, False, True]
    assert len(cache.prune(tmp_path)) == 2
    assert names(cache.entries(tmp_path)) == ['a']
    assert cache.prune(tmp_path) == []


def test_prune_what_was_not_used_for_long(tmp_path, three):
    removed = cache.prune(tmp_path, unused_days=1.5)
    assert names(removed) == ['a', 'b']
    assert names(cache.entries(tmp_path)) == ['c']
    # Locks of what is gone went too.
    assert len(list(cache.folder_of(tmp_path).iterdir())) == 2


def test_prune_to_a_size(tmp_path, three):
    size = sum(e.bytes for e in cache.entries(tmp_path))
    assert cache.prune(tmp_path, max_bytes=size) == []
    assert names(cache.prune(tmp_path, max_bytes=size - 1)) == ['a']
    assert names(cache.prune(tmp_path, max_bytes=0)) == ['b', 'c']


def test_prune_leaves_what_is_being_written(tmp_path, three):
    folder = cache.folder_of(tmp_path)
    busy, dead = folder / '.busy.npy-1', folder / '.dead.npy-1'
    for path in (busy, dead):
        path.mkdir()
    (folder / 'dead.lock').touch()
    with open(folder / 'busy.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cache.prune(tmp_path)
        assert busy.exists() and not dead.exists()
        assert (folder / 'busy.lock').exists()


def test_a_cache_that_is_not_there(tmp_path):
    assert cache.entries(tmp_path / 'none') == []
    assert cache.prune(tmp_path / 'none') == []


def run(capsys, *arguments):
    code = cache.main(list(arguments))
    return code, capsys.readouterr().out


def test_command_line(tmp_path, three, capsys):
    folder = f'--cache_dir={tmp_path}'
    code, out = run(capsys, folder, 'list')
    assert code == 0 and 'float32 50 x 3  b by net' in out and '3 files' in out
    code, out = run(capsys, folder, 'verify')
    assert code == 0 and out.count('whole ') == 3 and ', 0 broken' in out
    three[1].write_bytes(b'')
    code, out = run(capsys, folder, 'verify')
    assert code == 1 and out.count('whole ') == 2 and ', 1 broken' in out
    code, out = run(capsys, folder, 'prune', '--max_gigabytes=0.00000001')
    assert code == 0 and '3 files' in out and 'removed' in out
    code, out = run(capsys, folder, 'list')
    assert out.startswith('0 files')


def test_what_is_no_file_of_the_cache_is_passed_over(tmp_path, three):
    (cache.folder_of(tmp_path) / 'folder.npy').mkdir()
    assert names(cache.entries(tmp_path)) == ['a', 'b', 'c']
    cache.prune(tmp_path)
    assert (cache.folder_of(tmp_path) / 'folder.npy').is_dir()


def test_another_order_of_axes_is_noticed(tmp_path):
    make(tmp_path)
    (entry,) = cache.entries(tmp_path)
    content = entry.path.read_bytes()
    assert content.count(b"'fortran_order': False") == 1
    swapped = content.replace(b"'fortran_order': False", b"'fortran_order': True ")
    entry.path.write_bytes(swapped)
    np.testing.assert_array_equal(make(tmp_path), VALUES)


@pytest.mark.parametrize('description', [b'[]', b'{}', b'{"shape": 8}'])
def test_another_description_is_shown_as_broken(tmp_path, capsys, description):
    make(tmp_path)
    (entry,) = cache.entries(tmp_path)
    content = entry.path.read_bytes()
    start, end = content.index(b'{"'), content.rindex(b'}') + 1
    padded = description.ljust(end - start)
    entry.path.write_bytes(content[:start] + padded + content[end:])
    code, out = run(capsys, f'--cache_dir={tmp_path}', 'list')
    assert code == 0 and 'cut short, or of another version' in out


@pytest.mark.parametrize('amount', ['-1', 'nan', 'many'])
def test_amounts_below_nothing_are_refused(tmp_path, three, capsys, amount):
    for option in ('--unused_days', '--max_gigabytes'):
        with pytest.raises(SystemExit) as ended:
            run(capsys, f'--cache_dir={tmp_path}', 'prune', f'{option}={amount}')
        assert ended.value.code == 2
    assert names(cache.entries(tmp_path)) == ['a', 'b', 'c']


def test_a_cache_that_cannot_be_changed_is_one_line(tmp_path, three, capsys):
    three[0].with_suffix('.lock').unlink()
    three[0].with_suffix('.lock').mkdir()
    code = cache.main([f'--cache_dir={tmp_path}', 'prune'])
    assert code == 2
    assert capsys.readouterr().err.startswith(f'error: {three[0].with_suffix(".lock")}')

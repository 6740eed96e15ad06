"""Checkpoints: exact or broken, the newest and the best, nothing lost on full disks."""

import collections
import shutil

import numpy as np
import pytest
from full_disk import room_for

from tff_transfer.errors import UserError
from tff_transfer.records import checkpoints


def _state(value):
    return collections.OrderedDict(
        weights=[np.full((300, 4), value, np.float32), np.array(value, np.float64)],
        round=np.int32(value),
    )


def test_a_state_comes_back_as_it_was(tmp_path):
    state = _state(0.1)
    checkpoints.save(tmp_path, 7, state, 'of its rows', keep=2)
    loaded, rows = checkpoints.load(tmp_path, 7, like=_state(0))
    assert rows == 'of its rows'
    assert isinstance(loaded, collections.OrderedDict)
    np.testing.assert_array_equal(loaded['weights'][0], state['weights'][0])
    assert loaded['weights'][1].dtype == np.float64
    assert loaded['weights'][1] == 0.1
    assert checkpoints.rounds(tmp_path / 'none') == []


@pytest.mark.slow
def test_leaves_keep_their_order_however_many_there_are(tmp_path):
    state = [np.int32(number) for number in range(10_002)]
    checkpoints.save(tmp_path, 1, state, '', keep=1)
    loaded, _ = checkpoints.load(tmp_path, 1, like=state)
    np.testing.assert_array_equal(loaded, np.arange(10_002))


def test_the_newest_and_the_best_are_kept(tmp_path):
    for round_number in (5, 10, 999_999, 1_000_000):
        checkpoints.save(tmp_path, round_number, _state(1), '', keep=2, best=5)
    assert checkpoints.rounds(tmp_path) == [5, 999_999, 1_000_000]


def test_later_ones_do_not_push_out_what_a_run_goes_on_with(tmp_path):
    for round_number in (30, 10, 20):
        checkpoints.save(tmp_path, round_number, _state(1), '', keep=1)
    assert checkpoints.rounds(tmp_path) == [20, 30]


def test_other_files_are_no_checkpoints(tmp_path):
    for name in ('round_0000010.npz', 'round_10.npz', 'round_000٣٣٣.npz', 'x.npz'):
        (tmp_path / name).write_bytes(b'')
    (tmp_path / 'round_000009.npz').mkdir()
    checkpoints.save(tmp_path, 8, _state(1), '', keep=1)
    assert checkpoints.rounds(tmp_path) == [8]


def test_every_byte_that_is_changed_is_found_or_does_not_matter(tmp_path):
    state = [np.array([1.5, -2], np.float32), np.array([3, -4], np.int32)]
    checkpoints.save(tmp_path, 2, state, 'r', keep=1)
    path = checkpoints.path_of(tmp_path, 2)
    content = path.read_bytes()
    found = collections.Counter()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            loaded, rows = checkpoints.load(tmp_path, 2, like=state)
        except checkpoints.BrokenError as error:
            assert '\n' not in str(error)
            found['broken'] += 1
            continue
        assert rows == 'r'
        for ours, theirs in zip(loaded, state, strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_array_equal(ours, theirs)
        found['right'] += 1
    assert found['broken'] > 900 and found['right'] > 100


@pytest.mark.parametrize('damage', ['truncated', 'empty', 'text', 'renamed', 'older'])
def test_what_is_not_as_it_was_written_is_broken(tmp_path, damage):
    checkpoints.save(tmp_path, 1, _state(1), '', keep=2)
    path = checkpoints.path_of(tmp_path, 2)
    if damage == 'renamed':
        shutil.copy(checkpoints.path_of(tmp_path, 1), path)
    elif damage == 'older':  # Of a version without checksums.
        np.savez(path, leaf_0000=np.zeros(1))
    else:
        content = checkpoints.path_of(tmp_path, 1).read_bytes()
        damaged = {'truncated': content[:2000], 'empty': b'', 'text': b'hello'}
        path.write_bytes(damaged[damage])
    with pytest.raises(checkpoints.BrokenError, match='round_000002.npz is broken'):
        checkpoints.load(tmp_path, 2, like=_state(0))


def test_the_state_of_another_process_is_refused(tmp_path):
    checkpoints.save(tmp_path, 1, [np.zeros(3)], '', keep=1)
    for other in ([np.zeros(4)], [np.zeros(3, np.float32)], [np.zeros(3)] * 2):
        with pytest.raises(UserError, match='another network or optimizer'):
            checkpoints.load(tmp_path, 1, like=other)


@pytest.mark.filterwarnings('error::pytest.PytestUnraisableExceptionWarning')
def test_a_full_disk_loses_nothing_and_complains_once(tmp_path):
    checkpoints.save(tmp_path, 1, _state(1), '', keep=1)
    for size in (10, 1000, 4000, 5500):
        with pytest.raises(OSError), room_for(size):
            checkpoints.save(tmp_path, 2, _state(2), '', keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ['round_000001.npz']
    assert checkpoints.load(tmp_path, 1, like=_state(0))[0]['round'] == 1

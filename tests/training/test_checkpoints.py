"""Checkpoints: exact, the newest whole one, and nothing lost on a full disk."""

import collections
import resource
import signal

import numpy as np
import pytest

from tff_transfer.training import checkpoints


def _state(value):
    return collections.OrderedDict(
        weights=[np.full((300, 4), value, np.float32), np.array(value, np.float64)],
        round=np.int32(value),
    )


def test_a_state_comes_back_as_it_was(tmp_path):
    state = _state(0.1)
    checkpoints.save(tmp_path, 7, state, keep=2)
    done, loaded = checkpoints.load_newest(tmp_path, like=_state(0))
    assert done == 7
    assert isinstance(loaded, collections.OrderedDict)
    np.testing.assert_array_equal(loaded['weights'][0], state['weights'][0])
    assert loaded['weights'][1].dtype == np.float64
    assert loaded['weights'][1] == 0.1


def test_without_checkpoints_the_initial_state_stands(tmp_path):
    initial = _state(0)
    done, state = checkpoints.load_newest(tmp_path / 'none', like=initial)
    assert done == 0
    assert state is initial


def test_the_newest_are_kept(tmp_path):
    for round_number in (5, 10, 999_999, 1_000_000):
        checkpoints.save(tmp_path, round_number, _state(1), keep=2)
    assert checkpoints.rounds(tmp_path) == [999_999, 1_000_000]


@pytest.mark.parametrize('damage', ['truncated', 'flipped', 'empty', 'text'])
def test_a_damaged_checkpoint_gives_way_to_an_older_one(tmp_path, damage):
    checkpoints.save(tmp_path, 1, _state(1), keep=2)
    checkpoints.save(tmp_path, 2, _state(2), keep=2)
    newest = tmp_path / 'round_000002.npz'
    content = bytearray(newest.read_bytes())
    if damage == 'flipped':
        content[1000] ^= 255
    newest.write_bytes(
        {
            'truncated': content[:2000],
            'flipped': content,
            'empty': b'',
            'text': b'hello',
        }[damage]
    )
    done, state = checkpoints.load_newest(tmp_path, like=_state(0))
    assert done == 1
    assert state['round'] == 1


def test_the_state_of_another_process_is_refused(tmp_path):
    checkpoints.save(tmp_path, 1, [np.zeros(3)], keep=1)
    with pytest.raises(ValueError, match='another process'):
        checkpoints.load_newest(tmp_path, like=[np.zeros(4)])


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_full_disk_loses_nothing(tmp_path):
    checkpoints.save(tmp_path, 1, _state(1), keep=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError):
            checkpoints.save(tmp_path, 2, _state(2), keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ['round_000001.npz']
    assert checkpoints.load_newest(tmp_path, like=_state(0))[0] == 1

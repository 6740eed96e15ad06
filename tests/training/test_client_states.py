"""What clients keep on disk, against a dict in memory."""

import numpy as np
import pytest
from full_disk import room_for

from tff_transfer.errors import UserError
from tff_transfer.runtime import StackedClients
from tff_transfer.training import client_states
from tff_transfer.training.client_states import ClientStates

CLIENTS = 10
INITIAL = {'a': np.zeros((3, 2), np.float32), 'b': np.full(4, 7, np.int64)}
DRAW = np.random.default_rng(0)


def drawn():
    return {
        'a': DRAW.normal(size=(3, 2)).astype(np.float32),
        'b': DRAW.integers(0, 9, 4),
    }


def assert_equal(found, expected):
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_each_client_finds_what_it_kept_last(tmp_path):
    states = ClientStates(INITIAL, tmp_path / 'clients')
    index, kept = states.empty_index(CLIENTS), {}
    for _ in range(100):
        chosen = DRAW.choice(CLIENTS - 1, 3, replace=False)
        for client, found in zip(chosen, states.take(index, chosen), strict=True):
            assert_equal(found, kept.get(client, INITIAL))
        new = [drawn() for _ in chosen]
        index = states.put(index, chosen, new)
        kept.update(zip(chosen, new, strict=True))
    took_part = client_states.took_part(index)
    np.testing.assert_array_equal(took_part, [True] * (CLIENTS - 1) + [False])
    # Rows of nobody are written to again.
    assert (tmp_path / 'clients').stat().st_size == 64 * (24 + 32)


def test_stacked_values_and_scalars_are_rows_too():
    states = ClientStates({'a': np.zeros(3, np.float32), 'b': np.int32(5)})
    new = StackedClients(
        {'a': DRAW.normal(size=(4, 3)).astype(np.float32), 'b': np.arange(4)}
    )
    index = states.put(states.empty_index(9), [8, 1, 2, 4], new)
    found = states.take(index, [4, 0, 8])
    np.testing.assert_array_equal(found.arrays['b'], [3, 5, 0])
    np.testing.assert_array_equal(
        found.arrays['a'], [new.arrays['a'][3], np.zeros(3), new.arrays['a'][0]]
    )
    assert found.arrays['b'].dtype == np.int32


def test_rows_of_checkpoints_stay_through_any_number_of_rounds(tmp_path):
    states = ClientStates(INITIAL, tmp_path / 'clients')
    index, history = states.empty_index(CLIENTS), []
    for _ in range(30):
        new = [drawn() for _ in range(CLIENTS)]
        index = states.put(index, range(CLIENTS), new)
        history = [*history, (index, new)][-3:]
        states.need([saved for saved, _ in history])
    again = ClientStates(INITIAL, tmp_path / 'clients')
    for saved, expected in history:
        for found, wanted in zip(
            again.take(saved, range(CLIENTS)), expected, strict=True
        ):
            assert_equal(found, wanted)


def test_a_changed_or_shortened_file_is_told(tmp_path):
    path = tmp_path / 'clients'
    states = ClientStates(INITIAL, path)
    index = states.put(states.empty_index(CLIENTS), [4], [drawn()])
    states.need([index])
    whole = bytearray(path.read_bytes())
    whole[int(index[4, 0]) * 56 + 5] ^= 1
    for content in (bytes(whole), b''):
        path.write_bytes(content)
        with pytest.raises(UserError, match='what client number 4 keeps was changed'):
            ClientStates(INITIAL, path).take(index, [4])


def test_a_full_disk_and_a_folder_in_the_way_are_one_line(tmp_path):
    states = ClientStates(INITIAL, tmp_path / 'clients')
    index = states.put(states.empty_index(CLIENTS), [4], [drawn()])
    before = states.take(index, [4])[0]
    states.need([index])
    with pytest.raises(UserError, match='be stored in .*too large'), room_for(100):
        states.put(index, [4], [drawn()])
    assert_equal(states.take(index, [4])[0], before)
    (tmp_path / 'folder').mkdir()
    with pytest.raises(UserError, match='be stored in .*folder'):
        ClientStates(INITIAL, tmp_path / 'folder')

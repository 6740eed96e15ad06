import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tff_transfer.data import by_client, convert, federated, sqlite

HANDWRITING = (
    pathlib.Path(__file__).parents[3] / 'shared/data/handwriting_by_writer.npz'
)


def test_real_handwriting():
    if not HANDWRITING.exists():
        pytest.skip(f'{HANDWRITING} is not here')
    data = by_client.load(HANDWRITING)
    assert len(data) == 400 and data.x.shape == (44_757, 28, 28, 1)
    sizes = data.num_train + data.num_test
    assert sizes.min() == 53 and sizes.max() == 130
    seen, _ = federated.split_clients(400)
    assert sizes[seen].sum() == 40_392
    assert abs(data.num_test.sum() / 44_757 - 0.1) < 0.01
    np.testing.assert_array_equal(
        np.bincount(data.y), np.bincount(np.load(HANDWRITING)['label'])
    )


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('absent.npz', ['no such file']),
        ('absent', ['no such file']),
        ('a.parquet', ['.parquet', '.npz, .csv']),
        ('none', ["''", '.npz, .csv']),
    ],
)
def test_absent_and_unknown_files_are_refused(tmp_path, refused, name, words):
    if name in ('a.parquet', 'none'):
        (tmp_path / name).write_bytes(b'abc')
    with refused(tmp_path / name, *words):
        by_client.load(tmp_path / name)


def test_keys_for_files_that_have_none_are_refused(tmp_path, refused):
    (tmp_path / 'a.sqlite').write_bytes(b'')
    for path in (tmp_path, tmp_path / 'a.sqlite'):
        with refused(path, 'label_key'):
            by_client.load(path, label_key='y')


def test_unreadable_paths_are_refused(tmp_path, refused, monkeypatch):
    def deny(path, *args, **kwargs):
        raise PermissionError(13, 'Permission denied', str(path))

    (tmp_path / 'a.npz').write_bytes(b'')
    (tmp_path / 'a.csv').write_bytes(b'')
    monkeypatch.setattr('os.scandir', deny)
    monkeypatch.setattr('builtins.open', deny)
    for name in ('', 'a.npz', 'a.csv'):
        with refused(tmp_path / name, 'cannot be read', 'Permission denied'):
            by_client.load(tmp_path / name)
    monkeypatch.setattr(pathlib.Path, 'is_dir', deny)
    with refused(tmp_path, 'cannot be read', 'Permission denied'):
        by_client.load(tmp_path)


def test_sqlite_is_read_with_its_own_split(tmp_path):
    data = federated.from_rows(
        'd', np.zeros([20, 28, 28]), np.arange(20) % 3, np.arange(20) % 2
    )
    sqlite.write(data, tmp_path / 'a.db')
    found = by_client.load(tmp_path / 'a.db', test_fraction=0.9)
    assert found.name == 'a.db' and found.num_test.tolist() == [1, 1]


def test_the_command_converts_for_tff(tmp_path, capsys):
    np.savez(
        tmp_path / 'a.npz',
        images=np.arange(8 * 784, dtype=np.uint8).reshape(8, 28, 28),
        labels=np.arange(8),
        users=np.arange(8) % 2,
    )
    target = tmp_path / 'b.sqlite'
    options = ['--test_fraction', '0.25', '--label_key', 'labels']
    assert convert.main([str(tmp_path / 'a.npz'), str(target), *options]) == 0
    assert f'{target}: 2 clients, 8 examples' in capsys.readouterr().out
    direct = by_client.load(tmp_path / 'a.npz', test_fraction=0.25)
    np.testing.assert_array_equal(by_client.load(target).x, direct.x)
    assert convert.main([str(tmp_path / 'c.npz'), str(target)]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and error.count('\n') == 1


@pytest.mark.slow
def test_the_command_runs_as_a_module(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'tff_transfer.data.convert', 'absent.csv', 'b.sqlite'],
        capture_output=True,
        text=True,
        timeout=120,
        env={'PYTHONPATH': str(pathlib.Path(__file__).parents[2])},
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert 'error: absent.csv: no such file' in done.stderr

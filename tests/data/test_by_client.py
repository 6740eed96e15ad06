import os
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
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
        ('a.xlsx', ['.xlsx', '.npz, .csv']),
        ('none', ["''", '.npz, .csv']),
    ],
)
def test_absent_and_unknown_files_are_refused(tmp_path, refused, name, words):
    if name in ('a.xlsx', 'none'):
        (tmp_path / name).write_bytes(b'abc')
    with refused(tmp_path / name, *words):
        by_client.load(tmp_path / name)


def test_keys_for_files_that_have_none_are_refused(tmp_path, refused):
    (tmp_path / 'a.sqlite').write_bytes(b'')
    for path in (tmp_path, tmp_path / 'a.sqlite'):
        with refused(path, '--label_key', 'label_key= in Python'):
            by_client.load(path, label_key='y')


def test_an_empty_path_is_not_the_current_directory(
    tmp_path, refused, monkeypatch, capsys
):
    for client in ('ann', 'bob'):
        (tmp_path / client / 'owl').mkdir(parents=True)
        PIL.Image.new('L', (2, 2)).save(tmp_path / client / 'owl/1.png')
    monkeypatch.chdir(tmp_path)
    with refused('empty'):
        by_client.load('')
    assert convert.main(['', 'b.sqlite']) == 2
    assert 'empty' in capsys.readouterr().err
    assert len(by_client.load('.')) == 2


def test_a_pipe_is_no_file(tmp_path, refused):
    os.mkfifo(tmp_path / 'a.csv')
    with refused(tmp_path / 'a.csv', 'no such file'):
        by_client.load(tmp_path / 'a.csv')


def test_a_file_s_name_that_is_no_utf_8_can_be_written(tmp_path):
    path = os.fsencode(tmp_path) + b'/caf\xe9.csv'
    with open(path, 'w') as file:
        file.write('client,label,v\na,0,1\nb,1,2\n')
    data = by_client.load(os.fsdecode(path))
    assert data.name == 'caf\\xe9.csv'
    sqlite.write(data, tmp_path / 'a.sqlite')
    assert by_client.load(tmp_path / 'a.sqlite').client_ids == ('a', 'b')


def test_the_command_brings_images_to_one_size(tmp_path, capsys):
    for client, side in (('ann', 4), ('bob', 6)):
        (tmp_path / client / 'owl').mkdir(parents=True)
        PIL.Image.new('L', (side, side), side).save(tmp_path / client / 'owl/1.png')
    target = str(tmp_path / 'b.sqlite')
    assert convert.main([str(tmp_path), target, '--image_size', '5']) == 0
    data = by_client.load(target)
    assert data.x.shape == (2, 5, 5, 1) and data.x[:, 2, 2, 0].tolist() == [4, 6]
    assert convert.main([str(tmp_path), target, '--image_size', '0']) == 2
    assert 'at least 1' in capsys.readouterr().err


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

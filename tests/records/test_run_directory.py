"""A run directory holds one run."""

import dataclasses
import json
import os

import numpy as np
import pytest

from tff_transfer import files
from tff_transfer.algorithms import FedProx
from tff_transfer.data.federated import FederatedData
from tff_transfer.errors import UserError
from tff_transfer.records import run_directory
from tff_transfer.training.config import Config
from tff_transfer.training.training_config import TrainingConfig


def small_data(pixel):
    x = np.full((2, 3), pixel, np.float32)
    one = np.array([1])
    return FederatedData('mine', x, np.zeros(2, np.int32), ('a',), one, one, 1)


def test_a_new_one_records_the_configuration(tmp_path):
    with run_directory.opened(tmp_path / 'a' / 'run', Config()) as path:
        stored = json.loads((path / 'config.json').read_text())
    plain = json.loads(json.dumps(dataclasses.asdict(TrainingConfig())))
    assert stored['training'] == plain
    assert stored['versions']['tensorflow-federated'] == '0.87.0'


def test_the_same_configuration_opens_it_again(tmp_path):
    for _ in range(2):
        with run_directory.opened(tmp_path / 'run', Config()):
            pass


def test_another_configuration_is_refused_with_the_difference(tmp_path):
    with run_directory.opened(tmp_path / 'run', Config()):
        pass
    other = Config(training=TrainingConfig(batch_size=7))
    with (
        pytest.raises(UserError, match='--batch_size=20 there, 7 now'),
        run_directory.opened(tmp_path / 'run', other),
    ):
        pass


def test_what_it_ran_on_is_recorded_and_a_change_is_told(tmp_path, caplog):
    with run_directory.opened(tmp_path / 'run', Config()) as path:
        stored = json.loads((path / 'config.json').read_text())
    assert stored['devices'][0] == 'CPU'
    assert stored['threads'] == len(os.sched_getaffinity(0))
    with run_directory.opened(tmp_path / 'run', Config()):
        assert not caplog.text
    stored['versions']['numpy'] = '1.0'
    stored['threads'] = 77
    (path / 'config.json').write_text(json.dumps(stored))
    with run_directory.opened(tmp_path / 'run', Config()):
        assert f'numpy was 1.0, is {np.__version__}; threads was 77' in caplog.text


def test_rounds_may_be_others_but_no_fewer_than_are_done(tmp_path):
    def opened(rounds):
        training = TrainingConfig(rounds=rounds)
        with run_directory.opened(tmp_path / 'run', Config(training=training)) as path:
            return json.loads((path / 'config.json').read_text())

    first = opened(20)
    (tmp_path / 'run' / 'checkpoints').mkdir()
    (tmp_path / 'run' / 'checkpoints' / 'round_000012.npz').write_bytes(b'')
    for rounds in (25, 12):
        told = opened(rounds)
        assert told['training'] == {**first['training'], 'rounds': rounds}
        assert told['versions'] == first['versions']
    with pytest.raises(UserError, match='12 rounds, but --rounds is 11'):
        opened(11)


@pytest.mark.parametrize(
    'text',
    ['', '[]', 'null', '{', '7', '"x"', '[' * 9999, b'\xff\xfe', '{"training": [1]}']
    + ['{"data": null, "model": {}, "training": {}}'],
    ids=range(10),
)
def test_a_damaged_configuration_is_one_line(tmp_path, text):
    path = tmp_path / 'config.json'
    content = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(content)
    with (
        pytest.raises(UserError, match='config.json.*choose another') as caught,
        run_directory.opened(tmp_path, Config()),
    ):
        pass
    assert '\n' not in str(caught.value)
    assert path.read_bytes() == content


def test_what_an_earlier_version_did_not_name_has_its_default(tmp_path):
    def reopened(config, stored):
        (tmp_path / 'config.json').write_text(json.dumps(stored))
        with run_directory.opened(tmp_path, config):
            pass

    with run_directory.opened(tmp_path, Config()):
        stored = json.loads((tmp_path / 'config.json').read_text())
    del stored['algorithm'], stored['training']['min_client_epochs'], stored['model']
    reopened(Config(), stored)
    with pytest.raises(UserError, match='--algorithm=fedavg there, fedprox now'):
        reopened(Config(algorithm=FedProx()), stored)
    unequal = TrainingConfig(client_epochs=1, min_client_epochs=1)
    with pytest.raises(UserError, match='--min_client_epochs=None there, 1 now'):
        reopened(Config(training=unequal), stored)
    stored['algorithm'] = {'algorithm': 'fedprox'}
    reopened(Config(algorithm=FedProx()), stored)
    with pytest.raises(UserError, match=r'--fedprox\.mu=0\.01 there, 0\.5 now'):
        reopened(Config(algorithm=FedProx(mu=0.5)), stored)


@pytest.mark.parametrize(('part', 'value'), [('batch_size', 'x'), ('rounds', [1, 2])])
def test_a_configuration_of_other_types_is_one_line(tmp_path, part, value):
    with run_directory.opened(tmp_path / 'run', Config()) as path:
        stored = json.loads((path / 'config.json').read_text())
    stored['training'][part] = value
    (path / 'config.json').write_text(json.dumps(stored))
    with (
        pytest.raises(UserError, match=f'no configuration of this version .*{part}'),
        run_directory.opened(path, Config()),
    ):
        pass


def test_what_is_of_another_kind_is_named_and_left_alone(tmp_path):
    with run_directory.opened(tmp_path, Config()):
        pass
    files = ['data.json', 'network.json', 'metrics.csv', 'report.html', 'model.keras']
    folders = ['tensorboard', 'checkpoints', 'model']
    for name in files + folders:
        there = tmp_path / name
        there.mkdir() if name in files else there.write_text('mine')
        kind = 'file' if name in files else 'folder'
        with (
            pytest.raises(UserError, match=f'{there} is no {kind}.*move it away'),
            run_directory.opened(tmp_path, Config()),
        ):
            pass
        assert there.exists()
        there.rmdir() if name in files else there.unlink()
    (tmp_path / 'config.json').unlink()
    (tmp_path / 'config.json').mkdir()
    with (
        pytest.raises(UserError, match='config.json is no file'),
        run_directory.opened(tmp_path, Config()),
    ):
        pass


@pytest.mark.parametrize(
    'text',
    ['', '[]', 'null', '{}', '{"name": 1, "sha256": 2}', '[' * 9999, '\0'],
    ids=range(7),
)
def test_damaged_records_of_the_data_are_one_line(tmp_path, text):
    path = tmp_path / 'data.json'
    path.write_text(text)
    with pytest.raises(UserError, match='data.json is damaged') as caught:
        run_directory.check_same_data(tmp_path, small_data(0.0))
    assert '\n' not in str(caught.value)
    assert path.read_text() == text


def test_without_its_records_a_run_is_not_gone_on_with(tmp_path):
    (tmp_path / 'checkpoints').mkdir()
    (tmp_path / 'checkpoints' / 'round_000012.npz').write_bytes(b'')
    with pytest.raises(UserError, match='data.json is lost'):
        run_directory.check_same_data(tmp_path, small_data(0.0))
    assert not (tmp_path / 'data.json').exists()


def test_fresh_ones_are_never_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(run_directory.time, 'strftime', lambda pattern: 'now')
    made = [run_directory.fresh(tmp_path / 'runs') for _ in range(3)]
    assert [path.name for path in made] == ['now', 'now-2', 'now-3']
    assert all(path.is_dir() for path in made)
    (tmp_path / 'file').write_text('x')
    with pytest.raises(UserError, match='choose a --run_dir'):
        run_directory.fresh(tmp_path / 'file')


def test_what_a_kill_left_half_written_is_removed_on_opening(tmp_path):
    with run_directory.opened(tmp_path, Config()):
        pass
    folder = tmp_path / 'checkpoints'
    folder.mkdir()
    for name in ('.model-ab_c1234.part', '.report.html-00000000.part'):
        (tmp_path / name / 'inside').mkdir(parents=True)
    (folder / '.round_000003.npz-abcdefgh.part').mkdir()
    # Killed between moving the old model aside and putting the new one there.
    (tmp_path / '.model-zzzzzzzz.part' / 'old').mkdir(parents=True)
    (tmp_path / '.model-zzzzzzzz.part' / 'old' / 'weights').write_text('old')
    others = ['.git', '.notes-12345678', '.x-abc.part', 'y-abcdefgh.part']
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / '.z-abcdefgh.part').write_text('a file')
    with run_directory.opened(tmp_path, Config()):
        left = {path.name for path in tmp_path.iterdir()}
    expected = {'.lock', 'config.json', 'checkpoints', 'model', '.z-abcdefgh.part'}
    assert left == {*others, *expected}
    assert (tmp_path / 'model' / 'weights').read_text() == 'old'
    assert list(folder.iterdir()) == []


def test_what_is_half_written_has_a_name_that_is_removed(tmp_path):
    with files.replacing(tmp_path / 'model') as new:
        (scratch,) = tmp_path.iterdir()
        assert new.parent == scratch
        new.write_text('x')
        files.remove_leftovers(tmp_path)
        assert list(tmp_path.iterdir()) == []
        scratch.mkdir()
        new.write_text('x')
    assert [path.name for path in tmp_path.iterdir()] == ['model']


def test_two_at_once_are_refused(tmp_path):
    with (
        run_directory.opened(tmp_path / 'run', Config()),
        pytest.raises(UserError, match='in use by another process'),
        run_directory.opened(tmp_path / 'run', Config()),
    ):
        pass


def test_a_folder_of_other_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / 'thesis.txt').write_text('x')
    with (
        pytest.raises(UserError, match='holds files, but no run'),
        run_directory.opened(tmp_path, Config()),
    ):
        pass
    assert os.listdir(tmp_path) == ['thesis.txt']


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / 'file').write_text('x')
    with (
        pytest.raises(UserError, match='cannot be written'),
        run_directory.opened(tmp_path / 'file' / 'run', Config()),
    ):
        pass


def test_other_data_are_refused(tmp_path):
    run_directory.check_same_data(tmp_path, small_data(0.0))
    run_directory.check_same_data(tmp_path, small_data(0.0))
    with pytest.raises(UserError, match='whose data was mine .* is now mine'):
        run_directory.check_same_data(tmp_path, small_data(1.0))

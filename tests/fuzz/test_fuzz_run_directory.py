"""A run directory with damage: the same run, an older state of it, or one line."""

import collections
import csv
import io
import json
import math
import os
import shutil

import numpy as np
import pytest

import tff_transfer as tt
from tff_transfer import options
from tff_transfer.data import federated
from tff_transfer.records import checkpoints, metrics, run_directory
from tff_transfer.training.config import Config
from tff_transfer.training.model_config import ModelConfig
from tff_transfer.training.training_config import TrainingConfig

pytestmark = pytest.mark.slow


def state(value):
    return collections.OrderedDict(
        weights=[np.full((5, 4), value, np.float32), np.zeros((0, 3), np.float32)],
        mean=np.array(value, np.float64),
        round=np.int32(value),
    )


def assert_same_state(found, expected):
    for mine, other in zip(
        [*found['weights'], found['mean'], found['round']],
        [*expected['weights'], expected['mean'], expected['round']],
        strict=True,
    ):
        mine, other = np.asarray(mine), np.asarray(other)
        assert (mine.shape, mine.dtype) == (other.shape, other.dtype)
        assert mine.tobytes() == other.tobytes()


def test_checkpoint(tmp_path, fuzz):
    for number in (1, 2):
        checkpoints.save(tmp_path, number, state(number + 0.25), 'rows', keep=2)
    newest = max(tmp_path.iterdir())

    def judge(found, _):
        done, loaded = found
        assert done in (1, 2)
        assert_same_state(loaded, state(done + 0.25))
        return 'right' if done == 2 else 'older state'

    def load():
        for number in (2, 1):
            try:
                loaded, rows = checkpoints.load(tmp_path, number, state(0))
            except checkpoints.BrokenError:
                continue
            assert rows == 'rows'
            return number, loaded
        return None

    fuzz.damage('checkpoint', newest, load, judge, 300)


DATA = federated.from_rows(
    'drawn',
    np.random.default_rng(0).integers(0, 256, (40, 4, 4)).astype(np.uint8),
    np.tile(np.arange(4), 10),
    np.repeat(['ann', 'bob', 'eve', 'tom'], 10),
    test_fraction=0.3,
)
CONFIG = Config(
    model=ModelConfig(model='mlp', hidden_units=(4,)),
    training=TrainingConfig(rounds=3, clients_per_round=2, checkpoint_every=1),
)


def test_config(tmp_path, fuzz):
    with run_directory.opened(tmp_path, CONFIG):
        pass

    def read():
        with run_directory.opened(tmp_path, CONFIG):
            return True

    def judge(_, damaged):
        """What is opened says in its own words what is asked for."""
        stored = json.loads(damaged)
        # What is not named has its default, and what is not set may be no option (any
        # more); rounds may grow.
        defaults = json.loads(json.dumps(options.to_dict(Config())))
        for part, asked in json.loads(json.dumps(options.to_dict(CONFIG))).items():
            found = {**defaults[part], **stored.get(part, {})}
            found = {k: v for k, v in found.items() if k in asked or v is not None}
            free = {'rounds', 'on_divergence'}
            assert {k: v for k, v in found.items() if k not in free} == {
                k: v for k, v in asked.items() if k not in free
            }
        return 'explained'

    fuzz.damage('config.json', tmp_path / 'config.json', read, judge, 200)


def test_data(tmp_path, fuzz):
    run_directory.check_same_data(tmp_path, DATA)
    path = tmp_path / 'data.json'
    whole = json.loads(path.read_bytes())

    def judge(_, damaged):
        assert json.loads(damaged)['sha256'] == whole['sha256']
        return 'explained'

    def read():
        run_directory.check_same_data(tmp_path, DATA)

    fuzz.damage('data.json', path, read, judge, 100)


def test_metrics(tmp_path, fuzz):
    path = tmp_path / 'metrics.csv'
    columns = ('round', 'train/loss', 'seen/accuracy')
    kept = metrics.Records(tmp_path, columns, up_to_round=-1)
    for number in range(6):
        row = {'round': number, 'train/loss': 1 / (number + 3)}
        kept.append(row if number % 2 else {**row, 'seen/accuracy': number / 7})
    kept.close()

    def judge(found, damaged):
        """Each row that ends is there, and each cell is what Python reads in it."""
        text = damaged.decode('utf-8')
        whole = text[: text.rfind('\n') + 1]
        header, *rows = list(csv.reader(io.StringIO(whole, newline=''))) or [[]]
        assert len(set(header)) == len(header)
        rows = [row for row in rows if row]
        assert len(found) == len(rows)
        for mine, row in zip(found, rows, strict=True):
            assert list(mine) == header and len(row) == len(header)
            for value, cell in zip(mine.values(), row, strict=True):
                if value is None:
                    assert cell == ''
                else:
                    expected = float(cell)
                    assert value == expected or math.isnan(value + expected)
        return 'explained'

    fuzz.damage('metrics.csv', path, lambda: metrics.read(path), judge, 300)


@pytest.fixture(scope='module')
def whole_run(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp('whole') / 'run'
    return run_dir, tt.train(CONFIG, run_dir, data=DATA)


def timeless(rows):
    return [{k: v for k, v in row.items() if 'time/' not in k} for row in rows]


def _remove(name):
    def damage(run_dir):
        (run_dir / name).unlink()

    return damage


def _write(name, content):
    def damage(run_dir):
        path = run_dir / name
        if path.is_dir():
            shutil.rmtree(path)
        path.write_bytes(content)

    return damage


def _folder(name):
    def damage(run_dir):
        path = run_dir / name
        path.unlink()
        path.mkdir()

    return damage


def _cut(name):
    def damage(run_dir):
        path = run_dir / name
        os.truncate(path, path.stat().st_size // 2)

    return damage


def _double_a_row(run_dir):
    path = run_dir / 'metrics.csv'
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(''.join([*lines[:3], *lines[2:]]))


def _all_checkpoints(run_dir):
    for path in (run_dir / 'checkpoints').iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)


NEWEST = 'checkpoints/round_000003.npz'
DAMAGES = {
    'no metrics': _remove('metrics.csv'),
    'metrics cut': _cut('metrics.csv'),
    'metrics of bytes': _write('metrics.csv', b'\xff\xfe\0'),
    'metrics a folder': _folder('metrics.csv'),
    'a row twice': _double_a_row,
    'newest checkpoint cut': _cut(NEWEST),
    'newest checkpoint empty': _write(NEWEST, b''),
    'newest checkpoint a folder': _folder(NEWEST),
    'all checkpoints': _all_checkpoints,
    'checkpoints a file': _write('checkpoints', b''),
    'tensorboard a file': _write('tensorboard', b''),
    'data a list': _write('data.json', b'[]'),
    'config cut': _cut('config.json'),
    'report a folder': _folder('report.html'),
}


@pytest.mark.parametrize('name', DAMAGES)
def test_resumed(tmp_path, fuzz, whole_run, name):
    """The same command gives the same rows and weights, or one line."""
    run_dir, expected = whole_run
    damaged = tmp_path / 'run'
    shutil.copytree(run_dir, damaged)
    DAMAGES[name](damaged)

    def judge(result):
        assert timeless(result.rows) == timeless(expected.rows)
        on_disk = metrics.read(damaged / 'metrics.csv')
        assert timeless(on_disk) == timeless(expected.rows)
        for mine, other in zip(result.weights, expected.weights, strict=True):
            np.testing.assert_array_equal(mine, other)
        return 'right'

    def read():
        return tt.train(CONFIG, damaged, data=DATA)

    fuzz.attempt('run directory', 'whole resume', name, read, judge)
    fuzz.check()

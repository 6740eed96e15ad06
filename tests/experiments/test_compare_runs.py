"""Runs side by side."""

import json

import pytest
from absl.testing import flagsaver

from experiments import compare_runs
from tff_transfer import options
from tff_transfer.algorithms import FedAvg, FedExP, FedProx
from tff_transfer.errors import UserError
from tff_transfer.training.config import Config
from tff_transfer.training.training_config import TrainingConfig


@pytest.fixture
def runs(tmp_path):
    for name, rate, accuracy in (('a', 0.1, 0.5), ('b', 0.2, 0.75)):
        folder = tmp_path / name
        folder.mkdir()
        config = {'data': {'x': 1}, 'model': {}, 'training': {'rate': rate}}
        (folder / 'config.json').write_text(json.dumps(config))
        (folder / 'metrics.csv').write_text(
            'round,unseen/accuracy,time/total_s\n'
            f'0,0.1,0.5\n1,,1.0\n2,0.9,1.5\n3,{accuracy},2.0\n'
        )
    return tmp_path


def test_a_table_tells_what_differs(runs, capsys):
    with flagsaver.as_parsed(
        (compare_runs.OUTPUT, str(runs / 'plot.png')),
        (compare_runs.METRIC, 'unseen/accuracy'),
    ):
        compare_runs.main([str(runs / 'a'), str(runs / 'b')])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ['a', '3', '0.5000', '0.9000', '2', 'rate=0.1']
    assert lines[2].split() == ['b', '3', '0.7500', '0.9000', '2', 'rate=0.2']
    assert (runs / 'plot.png').read_bytes().startswith(b'\x89PNG')


def told(*run_dirs, metric='unseen/accuracy', output=''):
    """Returns the one line that a comparison is refused with."""
    with (
        flagsaver.as_parsed(
            (compare_runs.METRIC, metric), (compare_runs.OUTPUT, str(output))
        ),
        pytest.raises(UserError) as info,
    ):
        compare_runs.main([str(run_dir) for run_dir in run_dirs])
    assert '\n' not in str(info.value)
    return str(info.value)


def test_what_is_no_run_is_one_line(runs):
    assert 'nowhere has no rounds in a metrics.csv' in told(runs / 'nowhere')


def test_an_unknown_metric_is_told_with_those_there_are(runs):
    message = told(runs / 'a', metric='unseen/acuracy')
    assert 'no unseen/acuracy' in message
    assert message.endswith('one of time/total_s, unseen/accuracy')


def test_an_unknown_kind_of_picture_is_told_before_any_run_is_read(runs):
    for name in ('x.xyz', 'x'):
        message = told(runs / 'nowhere', output=runs / name)
        assert f'{name} names no kind' in message and '.png' in message
    assert 'cannot be written' in told(runs / 'a', output=runs / 'a/config.json/x.png')


@pytest.mark.parametrize(
    'content', [b'', b'{"data": ', b'[1, 2]', b'{}', b'\xff\xfe', b'{"training": 3}']
)
def test_a_damaged_configuration_is_told(runs, content):
    (runs / 'b' / 'config.json').write_bytes(content)
    assert str(runs / 'b' / 'config.json') in told(runs / 'a', runs / 'b')


def test_all_parts_and_the_flags_of_all_runs_are_compared():
    first = {'training': {'rate': 1, 'same': 2}, 'git_commit': 'x'}
    second = {'privacy': {'noise': 3}, 'training': {'rate': 1, 'same': 2}}
    third = {'training': {'rate': 4, 'same': 2}, 'git_commit': 'y'}
    assert compare_runs.differences([first, second, third]) == [
        'rate=1',
        'rate=1, noise=3',
        'rate=4',
    ]


def test_methods_and_their_options_are_told():
    configs = [
        Config(algorithm=FedAvg()),
        Config(algorithm=FedProx(mu=0.1)),
        Config(algorithm=FedProx(mu=0.1), training=TrainingConfig(rounds=3)),
        Config(algorithm=FedExP()),
    ]
    stored = json.loads(json.dumps([options.to_dict(config) for config in configs]))
    # Of a version that had neither methods nor this option.
    del stored[0]['algorithm'], stored[0]['training']['rounds']
    assert compare_runs.differences(stored) == [
        'rounds=150, algorithm=fedavg',
        'rounds=150, algorithm=fedprox, fedprox.mu=0.1',
        'rounds=3, algorithm=fedprox, fedprox.mu=0.1',
        'rounds=150, algorithm=fedexp, fedexp.epsilon=0.001,'
        ' fedexp.average_last_two=True',
    ]
    assert compare_runs.differences(stored[:1]) == ['']


def test_runs_whose_folders_have_the_same_name_are_told_apart(runs, capsys):
    (runs / 'c').mkdir()
    (runs / 'b').rename(runs / 'c' / 'a')
    with flagsaver.as_parsed(
        (compare_runs.METRIC, 'unseen/accuracy'), (compare_runs.OUTPUT, '')
    ):
        compare_runs.main([str(runs / 'a'), str(runs / 'c' / 'a')])
    _, first, second = capsys.readouterr().out.splitlines()
    assert first.split()[0] == str(runs / 'a')
    assert second.split()[0] == str(runs / 'c' / 'a')

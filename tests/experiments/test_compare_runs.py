"""Runs side by side."""

import json

import pytest
from absl.testing import flagsaver

from experiments import compare_runs
from tff_transfer.errors import UserError


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


def test_what_is_no_run_is_one_line(runs):
    with (
        flagsaver.as_parsed((compare_runs.METRIC, 'unseen/accuracy')),
        pytest.raises(UserError, match='nowhere has no unseen/accuracy'),
    ):
        compare_runs.main([str(runs / 'nowhere')])

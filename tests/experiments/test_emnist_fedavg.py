"""The command line as a user types it."""

import json
import pathlib
import subprocess
import sys

import pytest
from absl import flags

from experiments import command_line
from tff_transfer.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]


def _run(*arguments, **options):
    return subprocess.run(
        [sys.executable, '-m', 'experiments.emnist_fedavg', *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ('arguments', 'part'),
    [
        (['--rounds=many'], '--rounds'),
        (['--roundz=3'], 'roundz'),
        (['--dataset=by_client'], '--data_path'),
        (['--dataset=by_client', '--data_path=nowhere.npz'], 'nowhere.npz'),
        (['--flagfile=nowhere.txt'], 'nowhere.txt'),
        (['stray'], 'stray'),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, part, tmp_path):
    done = _run(*arguments, f'--run_dir={tmp_path / "run"}')
    assert done.returncode == 2
    assert done.stdout == ''
    assert part in done.stderr
    assert done.stderr.startswith('error: ')
    assert done.stderr.count('\n') == 1


@pytest.mark.slow
def test_a_small_run_through_a_pipe_ends_with_a_table(tmp_path):
    done = _run(
        '--dataset=synthetic_writers',
        '--num_writers=8',
        '--examples_per_writer=20',
        '--clients_per_round=4',
        '--rounds=2',
        f'--run_dir={tmp_path / "run"}',
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ['round', 'seen', 'clients']
    assert lines[-1] == f'report: {tmp_path / "run" / "report.html"}'
    stored = json.loads((tmp_path / 'run' / 'config.json').read_text())
    assert stored['data']['num_writers'] == 8


def test_every_user_error_ends_the_program_with_2(monkeypatch, capsys):
    monkeypatch.setattr(
        command_line.app, 'run', lambda main, flags_parser: main(['program'])
    )

    def main():
        raise UserError('it is wrong:\n mend it')

    with pytest.raises(SystemExit) as caught:
        command_line.run(main)
    assert caught.value.code == 2
    assert capsys.readouterr().err == 'error: it is wrong: mend it\n'


def test_an_unknown_flag_ends_the_program_with_2(monkeypatch, capsys):
    monkeypatch.setattr(command_line.flags, 'FLAGS', flags.FlagValues())
    with pytest.raises(SystemExit) as caught:
        command_line._parse(['program', '--nonsense=1'])
    assert caught.value.code == 2
    assert 'nonsense' in capsys.readouterr().err

"""The command line as a user types it."""

import json
import os
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
        pytest.param(['--rounds=many'], '--rounds', marks=pytest.mark.walk),
        (['--roundz=3'], 'roundz'),
        pytest.param(['--dataset=by_client'], '--data_path', marks=pytest.mark.walk),
        (['--dataset=by_client', '--data_path=nowhere.npz'], 'nowhere.npz'),
        pytest.param(['--flagfile=nowhere.txt'], 'nowhere.txt', marks=pytest.mark.walk),
        pytest.param(['stray'], 'stray', marks=pytest.mark.walk),
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


@pytest.mark.slow
def test_a_closed_pipe_does_not_harm_a_run(tmp_path):
    command = [sys.executable, '-m', 'experiments.emnist_fedavg', '--model=mlp']
    command += ['--dataset=synthetic_alpha_beta', '--num_writers=5', '--rounds=1']
    command += ['--clients_per_round=2', f'--run_dir={tmp_path / "run"}']
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        command, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, timeout=300
    )
    os.close(write)
    assert done.returncode == 141
    # One line, of a class that these few clients have no example of.
    assert done.stderr.count(b'\n') <= 1 and b'have no examples' in done.stderr
    for name in ('report.html', 'model/saved_model.pb', 'metrics.csv'):
        assert (tmp_path / 'run' / name).stat().st_size


CLOSED = """
import sys
from experiments import command_line
def main():
    print('written', file=sys.stderr)
    for _ in range({lines}):
        print('a line')
command_line.run(main)
"""


@pytest.mark.parametrize('lines', [1, 100_000])
def test_a_closed_pipe_ends_quietly(lines):
    # What stands in the buffer is noticed at the end alone, more while it is printed.
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, '-c', CLOSED.format(lines=lines)],
        cwd=ROOT,
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b'written\n')


def presets():
    return {path.stem: path for path in (ROOT / 'experiments/presets').glob('*.txt')}


def test_a_preset_is_found_by_its_name_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {'demo', 'emnist_cnn', 'finetune'} <= set(presets())
    for name, path in presets().items():
        for given in ([f'--flagfile={name}'], ['-flagfile', name]):
            found = command_line.with_presets(['program', *given, '--rounds=3'])
            assert found[0] == 'program' and found[-1] == '--rounds=3'
            assert pathlib.Path(found[-2].removeprefix('--flagfile=')).samefile(path)


def test_a_file_comes_before_the_preset_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'demo').write_text('--rounds=1\n')
    arguments = ['program', '--flagfile=demo', '--flagfile', 'demo', 'flagfile=x']
    assert command_line.with_presets(arguments) == arguments


def test_an_unknown_preset_is_told_with_those_there_are():
    with pytest.raises(UserError) as told:
        command_line.with_presets(['program', '--flagfile=emnist'])
    assert '--flagfile=emnist' in str(told.value)
    assert ', '.join(sorted(presets())) in str(told.value)


def test_a_preset_is_read(monkeypatch):
    values = flags.FlagValues()
    for name in ('model', 'server_optimizer'):
        flags.DEFINE_string(name, None, 'A name.', flag_values=values)
    for name in ('client_learning_rate', 'server_learning_rate', 'server_momentum'):
        flags.DEFINE_float(name, None, 'A number.', flag_values=values)
    flags.DEFINE_integer('rounds', None, 'Rounds.', flag_values=values)
    monkeypatch.setattr(command_line.flags, 'FLAGS', values)
    assert command_line._parse(['program', '--flagfile=emnist_cnn']) == ['program']
    assert (values.model, values.rounds) == ('cnn', 100)


def test_a_former_flag_says_what_it_is_called_now(monkeypatch, capsys):
    monkeypatch.setattr(command_line.flags, 'FLAGS', flags.FlagValues())
    with pytest.raises(SystemExit):
        command_line._parse(['program', '--ridge_penalty=1'])
    said = 'error: --ridge_penalty is --algorithm=ridge --ridge.penalty now; give that'
    assert capsys.readouterr().err == said + '\n'


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

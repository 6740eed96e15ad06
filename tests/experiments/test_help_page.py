"""What --help shows."""

import re
import subprocess
import sys

import pytest
from absl import flags
from test_emnist_fedavg import ROOT

from experiments import command_line, help_page
from tff_transfer import options
from tff_transfer.errors import UserError
from tff_transfer.training.config import Config
from tff_transfer.training.data_config import DataConfig


@pytest.fixture(scope='module')
def values():
    values = flags.FlagValues()
    options.define_flags(Config, values)
    flags.DEFINE_string('run_dir', None, 'A place.', values)
    for flag in values.get_flags_for_module(options):
        values.register_key_flag_for_module('program', flag)
    values.register_key_flag_for_module('program', values['run_dir'])
    flags.DEFINE_bool('internal', False, 'Of absl.', values)
    return values


def flags_of(page):
    """Returns the names of the flags that have a line, in order."""
    return re.findall(r'^ +--(?:\[no\])?([a-z_.]+)', page, re.MULTILINE)


def test_each_main_flag_has_one_line_with_its_default(values, monkeypatch):
    monkeypatch.setenv('COLUMNS', '90')
    page = help_page.page(values, 'program', 'It does it.\n', {})
    assert page.startswith('It does it.\n\nWhere the clients come from')
    found = flags_of(page)
    expected = [
        name for part in Config().__dict__.values() for name in part.__dict__
    ] + [
        *('algorithm', 'distill_from', 'privacy', 'aggregation'),
        *('compression', 'compression_down'),
        *('selection', 'fleet', 'timing', 'attack'),
        'run_dir',
    ]
    assert found == expected
    assert max(map(len, page.splitlines())) <= 90
    for line in (
        r'  --dataset=emnist +The source of the client data\.',
        r'  --data_path +A by-client file or folder \(npz, .* \.\.\.',
        r'  --\[no\]only_digits=true +Ten digits; .*',
        r'  --hidden_units +Sizes of .*',
        r'  --client_epsilon=1e-07 +Epsilon of adaptive .*',
    ):
        assert re.search(f'^{line}$', page, re.MULTILINE), line


def test_the_options_of_the_method_that_is_given_are_shown(values):
    page = help_page.page(values, 'program', '', {'algorithm': 'fedprox'})
    assert [name for name in flags_of(page) if '.' in name] == ['fedprox.mu']
    assert 'Federated optimization in heterogeneous networks' in page
    page = help_page.page(values, 'program', '', {'privacy': 'central'})
    assert 'central.target_epsilon' in flags_of(page)
    with pytest.raises(UserError, match="'fedprux' is no method; there are fedavg"):
        help_page.page(values, 'program', '', {'algorithm': 'fedprux'})


@pytest.mark.parametrize(
    'arguments',
    [
        ['--help', '--algorithm=fedprox'],
        ['--algorithm', 'fedprox', '-help'],
        ['--flagfile={folder}/flags.txt', '--help', '--rounds=x'],
    ],
)
def test_help_is_shown_before_anything_is_checked(
    values, arguments, tmp_path, monkeypatch, capsys
):
    (tmp_path / 'flags.txt').write_text('# A comment.\n--algorithm=fedprox\n')
    arguments = [argument.format(folder=tmp_path) for argument in arguments]
    monkeypatch.setattr(command_line.flags, 'FLAGS', values)
    with pytest.raises(SystemExit) as ended:
        command_line._parse(['program', *arguments])
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert '--rounds=150 ' in printed and '--fedprox.mu' in printed


@pytest.mark.slow
def test_help_of_the_main_job():
    done = subprocess.run(
        [sys.executable, '-m', 'experiments.emnist_fedavg', '--help'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('Federated transfer learning')
    found = flags_of(done.stdout)
    assert {'dataset', 'rounds', 'run_dir', 'algorithm'} <= set(found)
    assert not {'fedprox.mu', 'alsologtostderr', 'verbosity'} & set(found)
    assert len(found) > len(DataConfig().__dict__)

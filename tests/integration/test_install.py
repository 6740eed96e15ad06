"""What scripts/install.sh does, with an interpreter that only notes what it is asked.

The stand-in for Python makes a folder for `-m venv` and writes what else it is asked
to a log, so that no test needs a network. CI installs truly, from a fresh clone.
"""

import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys
import zipfile

import pytest
from packaging.requirements import Requirement

_ROOT = pathlib.Path(__file__).parents[2]
_INPUTS = ('requirements.lock', 'setup.cfg', 'pyproject.toml', 'scripts/install.sh')
_TOOLS = (
    'awk bash cat cp cut dirname env flock getconf grep head mkdir rm sha256sum sort'
    ' tail'
)

_PYTHON = """#!/usr/bin/env bash
here={here}
case "$*" in
  "-c "*) ;;
  "-m venv --clear .venv")
    echo "$*" >> $here/log
    rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  *" check")
    echo "tensorflow-federated 0.87.0 has requirement jax==0.4.14, but you have jax 0.4.18."
    echo "tensorflow-federated 0.87.0 has requirement jaxlib==0.4.14, but you have jaxlib 0.4.18."
    cat $here/complaint 2> /dev/null
    exit 1 ;;
  *)
    echo "$*" >> $here/log
    [[ ! -e $here/unreachable ]] ;;
esac
"""  # noqa: E501


def _executable(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


class _Machine:
    """A clone and a machine with nothing but a few tools and a stand-in for Python."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.clone = folder / 'clone'
        for name in _INPUTS:
            (self.clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(_ROOT / name, self.clone / name)
        self.bin = folder / 'bin'
        self.bin.mkdir()
        for tool in _TOOLS.split():
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.command('uname', 'echo Linux x86_64')
        _executable(self.bin / 'python3.11', _PYTHON.format(here=folder))

    def command(self, name: str, script: str):
        """Puts a command in the place of another."""
        (self.bin / name).unlink(missing_ok=True)
        _executable(self.bin / name, f'#!{shutil.which("bash")}\n{script}\n')

    def install(self, **environment: str) -> subprocess.CompletedProcess:
        """Installs, as the Makefile does."""
        return subprocess.run(
            [self.clone / 'scripts' / 'install.sh'],
            env={'PATH': str(self.bin), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def asked(self) -> list[str]:
        """Returns what Python was asked since the last call of this."""
        log = self.folder / 'log'
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def machine(tmp_path):
    return _Machine(tmp_path)


def _refused(result) -> str:
    """Returns the one line that a refused installation says."""
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith('error: ')
    return line


def test_a_second_call_installs_nothing(machine):
    result = machine.install()
    assert (result.returncode, result.stderr) == (0, '')
    venv, tools, lock, package = machine.asked()
    assert venv == '-m venv --clear .venv'
    for line, name in ((tools, '.venv/build-tools.lock'), (lock, 'requirements.lock')):
        assert '--no-deps' in line and '--require-hashes' in line
        assert line.endswith(f'-r {name}')
    assert package.endswith('--no-deps --no-build-isolation --editable .')
    again = machine.install()
    assert (again.returncode, again.stdout, again.stderr) == (0, '', '')
    assert machine.asked() == []


def test_the_build_tools_are_those_of_the_lock(machine):
    machine.install()
    tools = (machine.clone / '.venv' / 'build-tools.lock').read_text()
    names = [line.split('==')[0] for line in tools.splitlines() if line[0].isalpha()]
    assert names == ['setuptools', 'wheel']
    assert tools.count('--hash=sha256:') >= 2


def test_an_interrupted_installation_is_repaired(machine):
    (machine.folder / 'unreachable').touch()
    assert 'run the same command again' in _refused(machine.install())
    machine.asked()
    (machine.folder / 'unreachable').unlink()
    assert machine.install().returncode == 0
    assert machine.asked()[0] == '-m venv --clear .venv'


def test_another_lock_is_installed_in_place(machine):
    machine.install()
    machine.asked()
    with open(machine.clone / 'requirements.lock', 'a') as lock:
        lock.write('# another\n')
    assert machine.install().returncode == 0
    assert not any('venv --clear' in line for line in machine.asked())
    assert machine.install().stdout == ''


def test_an_interrupted_update_starts_afresh(machine):
    machine.install()
    with open(machine.clone / 'requirements.lock', 'a') as lock:
        lock.write('# another\n')
    (machine.folder / 'unreachable').touch()
    machine.install()
    (machine.folder / 'unreachable').unlink()
    machine.asked()
    machine.install()
    assert machine.asked()[0] == '-m venv --clear .venv'


def test_a_moved_repository_is_installed_afresh(machine):
    machine.install()
    machine.asked()
    machine.clone = machine.clone.rename(machine.folder / 'moved')
    assert machine.install().returncode == 0
    assert machine.asked()[0] == '-m venv --clear .venv'


def test_a_lost_interpreter_is_replaced(machine):
    machine.install()
    machine.asked()
    (machine.clone / '.venv' / 'bin' / 'python').unlink()
    assert machine.install().returncode == 0
    assert machine.asked()[0] == '-m venv --clear .venv'


def test_packages_that_do_not_fit(machine):
    complaint = 'keras 3.1.0 is not what tensorflow 2.14.1 asks for'
    (machine.folder / 'complaint').write_text(f'{complaint}\n')
    assert _refused(machine.install()).endswith(complaint)
    (machine.folder / 'complaint').unlink()
    machine.asked()
    assert machine.install().returncode == 0
    assert machine.asked() != []


def test_no_python(machine):
    (machine.bin / 'python3.11').unlink()
    line = _refused(machine.install())
    assert 'CPython 3.11 is needed' in line and 'make test PYTHON=' in line
    assert not (machine.clone / '.venv').exists()


def test_wrong_python(machine):
    machine.command('python3.11', 'exit 127')
    machine.command('python3', 'exit 1')
    assert 'CPython 3.11 is needed' in _refused(machine.install())


def test_python3_that_is_right(machine):
    (machine.bin / 'python3.11').rename(machine.bin / 'python3')
    assert machine.install().returncode == 0


def test_a_named_python(machine):
    named = machine.folder / 'my python'
    (machine.bin / 'python3.11').rename(named)
    assert machine.install(PYTHON=str(named)).returncode == 0
    other = machine.folder / 'no_python'
    shutil.rmtree(machine.clone / '.venv')
    assert str(other) in _refused(machine.install(PYTHON=str(other)))


def test_python_without_venv(machine):
    machine.command('python3.11', '[[ $2 != *ensurepip* ]]')
    assert 'apt install python3.11-venv' in _refused(machine.install())


@pytest.mark.parametrize(
    'command, script, said',
    [
        ('uname', 'echo Darwin arm64', 'this is Darwin arm64'),
        ('uname', 'echo Linux aarch64', 'this is Linux aarch64'),
        ('getconf', 'echo glibc 2.28', 'this system has 2.28'),
        ('getconf', 'exit 1', 'another C library'),
    ],
)
def test_another_platform(machine, command, script, said):
    machine.command(command, script)
    assert said in _refused(machine.install())


def test_each_package_of_the_lock_is_pinned_with_hashes():
    text = (_ROOT / 'requirements.lock').read_text()
    entries = re.split(r'\n(?=[A-Za-z])', text)
    assert len(entries) > 100
    for entry in entries:
        assert re.match(r'[a-z0-9-]+==\S+ \\\n    --hash=sha256:[0-9a-f]{64}', entry)
    options = [line for line in text.splitlines() if line.startswith('-')]
    assert options == [] and '://' not in text


def test_the_lock_holds_what_is_asked_for():
    lock = (_ROOT / 'requirements.lock').read_text()
    locked = dict(re.findall(r'^([\w.-]+)==(\S+)', lock, re.MULTILINE))
    for line in (_ROOT / 'requirements.in').read_text().splitlines():
        if line and not line.startswith('#'):
            asked = Requirement(line)
            assert asked.specifier.contains(locked[asked.name.lower()]), line


@pytest.mark.slow
def test_the_wheel_carries_the_data(tmp_path):
    clone = tmp_path / 'clone'
    skipped = shutil.ignore_patterns('.venv', '.git', '*.egg-info', 'build', 'runs')
    shutil.copytree(_ROOT, clone, ignore=skipped)
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps']
        + ['--no-build-isolation', '--wheel-dir', tmp_path, '.'],
        cwd=clone,
        env={**os.environ, 'PIP_DISABLE_PIP_VERSION_CHECK': '1'},
        check=True,
        timeout=120,
    )
    (wheel,) = tmp_path.glob('tff_transfer-*.whl')
    carried = set(zipfile.ZipFile(wheel).namelist())
    tracked = subprocess.run(
        ['git', 'ls-files', 'tff_transfer', 'experiments'],
        cwd=_ROOT,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert 'experiments/presets/demo.txt' in tracked
    assert 'tff_transfer/records/report.html.jinja' in tracked
    assert set(tracked) <= carried
    # As it is installed, without a checkout, presets are found by their names.
    zipfile.ZipFile(wheel).extractall(tmp_path / 'installed')
    code = (
        'from experiments import command_line;'
        'print(command_line.with_presets(["--flagfile=demo"]))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(tmp_path / 'installed')},
        capture_output=True,
        text=True,
        timeout=60,
    )
    preset = tmp_path / 'installed' / 'experiments' / 'presets' / 'demo.txt'
    assert done.stdout == f"['--flagfile={preset}']\n"

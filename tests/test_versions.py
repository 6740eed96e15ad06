"""Versions of other packages: what is accepted, and what is said otherwise."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from tff_transfer import versions
from tff_transfer.errors import UserError

_LOCK = pathlib.Path(__file__).parent.parent / 'requirements.lock'


def _install(folder, name, version):
    """Lays down the metadata of a package, which is all that is looked at."""
    metadata = folder / f'{name.replace("-", "_")}-{version}.dist-info'
    metadata.mkdir()
    text = f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'
    (metadata / 'METADATA').write_text(text)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Packages at the locked versions; a test adds others before them."""
    for place in ('others', 'locked'):
        (tmp_path / place).mkdir()
    for needed in versions.NEEDED:
        _install(tmp_path / 'locked', needed.name, needed.locked)
    (tmp_path / 'locked' / 'pkg_resources.py').write_text('')
    monkeypatch.delitem(sys.modules, 'pkg_resources', raising=False)
    monkeypatch.setattr(
        'sys.path', [str(tmp_path / 'others'), str(tmp_path / 'locked')]
    )
    return tmp_path / 'others'


def test_versions_are_those_of_the_lock():
    locked = dict(re.findall(r'^([\w.-]+)==(\S+)', _LOCK.read_text(), re.MULTILINE))
    for needed in versions.NEEDED:
        assert locked[needed.name] == needed.locked
        assert needed.accepts(needed.locked)


def test_nothing_to_say_of_the_locked_versions(installed):
    assert versions.problems() == ()
    versions.check()


@pytest.mark.parametrize(
    'name, version',
    [
        ('tensorflow', '2.14.0'),
        ('tensorflow-hub', '0.14.0'),
        ('numpy', '1.26.4'),
        ('jax', '0.4.20'),
        ('protobuf', '3.20.3'),
    ],
)
def test_versions_that_can_work(installed, name, version):
    _install(installed, name, version)
    assert versions.installed(name) == version
    assert versions.problems() == ()


@pytest.mark.parametrize(
    'name, version, why',
    [
        ('tensorflow', '2.16.1', 'built for 2.14'),
        ('tensorflow', '2.13.1', 'built for 2.14'),
        ('keras', '3.1.0', "TensorFlow 2.14's own"),
        ('tensorflow-hub', '0.16.1', 'second Keras'),
        ('tensorflow-federated', '0.48.0', 'other interfaces'),
        ('numpy', '2.0.0', 'NumPy 1'),
        ('protobuf', '5.26.1', 'less than 5'),
        ('jaxlib', '0.4.20+cuda11.cudnn86', 'newer than jax 0.4.18'),
    ],
)
def test_versions_that_cannot_work(installed, name, version, why):
    _install(installed, name, version)
    with pytest.raises(UserError) as error:
        versions.check()
    message = str(error.value)
    assert name in message and version in message and why in message
    assert 'BUILD_NOTES.md' in message
    assert '\n' not in message


def test_absent_packages(tmp_path, monkeypatch):
    monkeypatch.setattr('sys.path', [str(tmp_path)])
    problems = ' '.join(versions.problems())
    assert 'tensorflow-federated is not installed (0.87.0 is needed)' in problems
    assert 'jaxlib is not installed' in problems


def test_tensorflow_under_another_name(tmp_path, monkeypatch):
    monkeypatch.setattr('sys.path', [str(tmp_path)])
    _install(tmp_path, 'tensorflow-cpu', '2.14.1')
    assert versions.installed('tensorflow') == '2.14.1'


def test_wrong_python(installed, monkeypatch):
    monkeypatch.setattr('sys.version_info', (3, 12, 1, 'final', 0))
    assert versions.problems() == ('Python is 3.12, 3.11 is needed',)


def test_setuptools_without_pkg_resources(installed):
    (installed.parent / 'locked' / 'pkg_resources.py').unlink()
    (problem,) = versions.problems()
    assert 'setuptools has no pkg_resources' in problem


def test_the_doctor_is_let_through(installed, monkeypatch):
    _install(installed, 'tensorflow', '2.16.1')
    monkeypatch.setattr('sys.orig_argv', ['python', '-m', 'tff_transfer.doctor'])
    versions.check()


@pytest.mark.parametrize(
    'arguments, said',
    [
        (['-c', 'import tff_transfer'], 'UserError: tensorflow is 2.16.1'),
        (['-m', 'tff_transfer.doctor'], 'WRONG  packages       tensorflow is 2.16.1'),
    ],
)
def test_a_wrong_version_is_said_at_import(tmp_path, arguments, said):
    _install(tmp_path, 'tensorflow', '2.16.1')
    result = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, 'PYTHONPATH': str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert result.returncode == 1
    assert said in result.stdout

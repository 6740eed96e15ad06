"""The doctor: each thing that can be wrong is found, and said with what to do."""

import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from tff_transfer import doctor
from tff_transfer.data import federated, sqlite


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home without caches."""
    for name in ('HOME', 'TFF_TRANSFER_CACHE_DIR', 'TFHUB_CACHE_DIR'):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    return tmp_path / 'home'


def _only(findings):
    (finding,) = findings
    return finding


def test_line():
    fine = doctor.Finding('memory', '8 GiB')
    note = doctor.Finding('GPU', 'unseen', 'install gpu')
    wrong = doctor.Finding('disk', 'full', 'make room', wrong=True)
    assert doctor.line(fine) == 'ok     memory         8 GiB'
    assert doctor.line(note).splitlines()[0].startswith('note   GPU')
    assert doctor.line(wrong).splitlines()[0].startswith('WRONG  disk')
    assert doctor.line(wrong).splitlines()[1].strip() == '-> make room'


def test_this_machine_is_fit():
    findings = [*doctor.python_and_platform(), *doctor.packages()]
    assert not any(finding.wrong for finding in findings)


def test_wrong_python(monkeypatch):
    monkeypatch.setattr('sys.version_info', (3, 12, 1, 'final', 0))
    assert doctor.python_and_platform()[0].wrong


@pytest.mark.parametrize(
    'system, machine, libc',
    [
        ('Darwin', 'arm64', ('', '')),
        ('Linux', 'aarch64', ('glibc', '2.36')),
        ('Linux', 'x86_64', ('glibc', '2.28')),
        ('Linux', 'x86_64', ('', '')),
    ],
)
def test_wrong_platform(monkeypatch, system, machine, libc):
    monkeypatch.setattr('platform.system', lambda: system)
    monkeypatch.setattr('platform.machine', lambda: machine)
    monkeypatch.setattr('platform.libc_ver', lambda: libc)
    finding = doctor.python_and_platform()[1]
    assert finding.wrong and 'glibc 2.31' in finding.advice


def test_a_wrong_version_ends_the_examination(monkeypatch):
    problem = 'tensorflow is 2.16.1, 2.14.1 is needed'
    monkeypatch.setattr('tff_transfer.versions.problems', lambda: (problem,))
    found = list(doctor.examine())
    assert [finding.found for finding in found if finding.wrong] == [problem]
    assert found[-1] == doctor.Finding('computation', 'not tried')


def test_a_version_beside_the_lock_is_a_note(monkeypatch):
    monkeypatch.setattr('tff_transfer.versions.installed', lambda name: '0.0')
    monkeypatch.setattr('tff_transfer.versions.problems', lambda: ())
    finding = _only(doctor.packages())
    assert not finding.wrong and 'numpy 0.0 (lock: 1.25.2)' in finding.found


def test_cores_and_memory():
    cores, memory = doctor.cores_and_memory()
    assert cores.found == f'{len(os.sched_getaffinity(0))} cores'
    total = float(memory.found.split()[2])
    physical = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30
    assert 0 < total <= physical + 0.06


def test_memory_limit_of_a_container(monkeypatch, tmp_path):
    (tmp_path / 'memory.max').write_text(f'{3 << 29}\n')
    (tmp_path / 'memory.current').write_text(f'{1 << 29}\n')
    monkeypatch.setattr(doctor.memory, 'CONTROL_GROUP', tmp_path)
    memory = doctor.cores_and_memory()[1]
    assert memory.found == '1.0 of 1.5 GiB free' and memory.wrong


def test_full_disk(monkeypatch):
    monkeypatch.setattr(
        'shutil.disk_usage', lambda _: doctor.shutil._ntuple_diskusage(9, 9, 0)
    )
    assert all(finding.wrong for finding in doctor.disk())


def test_caches_are_counted(home):
    folder = home.parent / 'tff_transfer_cache_dir'
    (folder / 'features').mkdir()
    (folder / 'features' / 'x.npy').write_bytes(bytes(20_000_000))
    found = doctor.caches()[0]
    assert found.found == f'{folder}: 1 files, 0.02 GB'


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'file' / 'cache'))
    finding = doctor.caches()[0]
    assert finding.wrong and 'TFF_TRANSFER_CACHE_DIR' in finding.advice


def test_a_broken_module_in_the_hub_cache(tmp_path):
    hub = tmp_path / 'tfhub_cache_dir'
    for name in ('whole', 'broken'):
        (hub / name).mkdir()
        (hub / f'{name}.descriptor.txt').write_text('Module: ...')
    (hub / 'whole' / 'saved_model.pb').write_bytes(b'\0')
    wrong = [finding for finding in doctor.caches() if finding.wrong]
    assert _only(wrong).found == f'{hub / "broken"} is no module'


def test_no_hub_cache_is_a_note(monkeypatch):
    monkeypatch.delenv('TFHUB_CACHE_DIR')
    finding = doctor.caches()[1]
    assert finding.advice and not finding.wrong


def test_emnist_cache(home):
    assert 'absent' in _only(doctor.emnist_cache()).found
    database = home / '.tff' / 'emnist_all.sqlite'
    images = np.zeros((6, 28, 28), np.uint8)
    labels, writers = np.arange(6) % 2, np.repeat(['a', 'b'], 3)
    data = federated.from_rows('', images, labels, writers, test_fraction=0.4)
    sqlite.write(data, database)
    finding = _only(doctor.emnist_cache())
    assert finding.wrong and '2 writers' in finding.found and '3,400' in finding.advice
    database.write_bytes(database.read_bytes()[:5000])
    finding = _only(doctor.emnist_cache())
    assert finding.wrong and 'truncated' in finding.found


def test_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert doctor.gpus([]).found.startswith('none')
    assert doctor.gpus(['/physical_device:GPU:0']).found == '/physical_device:GPU:0'
    (tmp_path / 'nvidia-smi').write_text('#!/bin/sh\n')
    (tmp_path / 'nvidia-smi').chmod(0o755)
    assert '[gpu]' in doctor.gpus([]).advice


def test_what_hangs_is_ended_with_all_it_started(tmp_path):
    # The shell's child takes the place of TFF's worker: it outlives its parent.
    script = f'sleep 1000 & echo $! > {tmp_path}/pid; wait'
    start = time.monotonic()
    finding = _only(doctor.ask(['sh', '-c', script], deadline_s=1))
    assert time.monotonic() - start < 10
    assert finding.wrong and 'did not end within 1 s' in finding.found
    status = pathlib.Path(f'/proc/{(tmp_path / "pid").read_text().strip()}/stat')
    end = time.monotonic() + 10
    while status.exists() and ') Z ' not in status.read_text():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_fails_says_its_last_words():
    script = 'echo first >&2; echo "ImportError: no such thing" >&2; exit 3'
    finding = _only(doctor.ask(['sh', '-c', script], deadline_s=10))
    assert finding.found == 'failed (exit code 3): ImportError: no such thing'
    finding = _only(doctor.ask(['sh', '-c', 'kill -9 $$'], deadline_s=10))
    assert finding.found == 'failed (signal 9): without a word'


@pytest.mark.slow
@pytest.mark.parametrize('broken', [False, True])
def test_exit_code(tmp_path, broken):
    if broken:
        (tmp_path / 'tfhub_cache_dir' / 'm.descriptor.txt').write_text('')
    with open(tmp_path / 'out', 'w+') as out:
        command = [sys.executable, '-m', 'tff_transfer.doctor']
        status = subprocess.run(command, stdout=out, timeout=120).returncode
        out.seek(0)
        lines = out.read().splitlines()
    right = [line for line in lines if line.endswith('runtime: 13.6667')]
    assert len(right) == 2
    assert (status, lines[-1]) == (
        (1, '1 wrong: see the arrows') if broken else (0, 'All is well.')
    )

"""The doctor: each thing that can be wrong is found, and said with what to do."""

import os
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
from full_disk import room_for

from tff_transfer import doctor, machine, probes
from tff_transfer.data import federated, sqlite
from tff_transfer.findings import Finding, line


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
    fine = Finding('memory', '8 GiB')
    note = Finding('GPU', 'unseen', 'install gpu')
    wrong = Finding('disk', 'full', 'make room', wrong=True)
    assert line(fine) == 'ok     memory         8 GiB'
    assert line(note).splitlines()[0].startswith('note   GPU')
    assert line(wrong).splitlines()[0].startswith('WRONG  disk')
    assert line(wrong).splitlines()[1].strip() == '-> make room'


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
    assert found[-1] == Finding('computation', 'not tried')


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


GIB = 1 << 30


@pytest.fixture
def system(monkeypatch):
    """Gives a place for files that say what the system gives, instead of its own."""
    told = {'/proc/meminfo': f'MemTotal: {16 << 20} kB\nMemAvailable: {12 << 20} kB\n'}
    monkeypatch.setattr(machine, 'read', lambda path: told.get(str(path), ''))
    return told


def test_memory_of_the_machine(system):
    assert machine.memory() == machine.Memory(16 * GIB, 12 * GIB)
    assert doctor.cores_and_memory()[1].found == '12.0 of 16.0 GiB free'


@pytest.mark.parametrize(
    'group, folder, limit, use, cached',
    [
        ('0::/', '', 'memory.max', 'memory.current', 'inactive_file'),
        ('0::/a/b', '/a', 'memory.max', 'memory.current', 'inactive_file'),
        ('0::/../seen/outside', '', 'memory.max', 'memory.current', 'inactive_file'),
        (
            '5:cpu,memory:/docker/x',
            '/memory/docker/x',
            'memory.limit_in_bytes',
            'memory.usage_in_bytes',
            'total_inactive_file',
        ),
        (
            '5:memory:/docker/x',
            '/memory',
            'memory.limit_in_bytes',
            'memory.usage_in_bytes',
            'total_inactive_file',
        ),
    ],
)
def test_memory_limit_of_a_container(system, group, folder, limit, use, cached):
    place = f'/sys/fs/cgroup{folder}'
    system['/proc/self/cgroup'] = f'7:pids:/z\n{group}\n'
    system[f'{place}/{limit}'] = f'{3 * GIB}\n'
    system[f'{place}/{use}'] = f'{2 * GIB}\n'
    system[f'{place}/memory.stat'] = f'anon 5\n{cached} {GIB // 2}\n'
    assert machine.memory() == machine.Memory(3 * GIB, GIB + GIB // 2, 'control group')
    memory = doctor.cores_and_memory()[1]
    assert memory.found == '1.5 of 3.0 GiB free (control group)'


def test_a_limit_above_the_machine_is_none(system):
    system['/proc/self/cgroup'] = '0::/\n'
    for text in (f'{1 << 62}', 'max', ''):
        system['/sys/fs/cgroup/memory.max'] = text
        assert machine.memory() == machine.Memory(16 * GIB, 12 * GIB)


@pytest.mark.parametrize(
    'free, wrong, advice',
    [(0.9, True, 'the demo alone wants 1.0 GiB'), (2, False, 'EMNIST'), (9, False, '')],
)
def test_too_little_memory_for_the_defaults(system, free, wrong, advice):
    system['/proc/meminfo'] = (
        f'MemTotal: {16 << 20} kB\nMemAvailable: {int(free * (1 << 20))} kB\n'
    )
    memory = doctor.cores_and_memory()[1]
    assert memory.wrong == wrong
    assert advice in memory.advice and bool(memory.advice) == bool(advice)


def test_too_little_address_space(monkeypatch):
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(machine.read('/proc/self/statm').split()[0]) * 4096
    assert machine.address_space() is None and len(doctor.cores_and_memory()) == 2
    resource.setrlimit(resource.RLIMIT_AS, (used + GIB, limits[1]))
    try:
        given = machine.address_space()
        finding = doctor.cores_and_memory()[2]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert given.total == used + GIB and GIB // 2 < given.free <= GIB
    assert finding.wrong and finding.found.endswith('(ulimit -v)')


def test_full_disk(monkeypatch):
    monkeypatch.setattr(
        'shutil.disk_usage', lambda _: doctor.shutil._ntuple_diskusage(9, 9, 0)
    )
    assert all(finding.wrong for finding in doctor.disk())


def test_writing_is_tried(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    with room_for(0):  # Files may be opened, and nothing written.
        wrong = [f for f in (*doctor.disk(), *doctor.caches()) if f.wrong]
        finding = _only(probes.federated_computations())
    assert [finding.what for finding in wrong] == [
        'run folder',
        'temporary files',
        'feature cache',
        'TF-Hub cache',
    ]
    assert all('cannot be written (File too large)' in f.found for f in wrong)
    assert finding.wrong and '(File too large)' in finding.found


@pytest.fixture
def mounted(tmp_path):
    """Mounts a file system of 64 KiB, and gives how to mount it again."""

    def mount(*options):
        command = ['mount', '-t', 'tmpfs', *options, 'tmpfs', str(tmp_path / 'disk')]
        return subprocess.run(command, capture_output=True, text=True)

    (tmp_path / 'disk').mkdir()
    done = mount('-o', 'size=64k')
    if done.returncode:
        pytest.skip(f'mounting is not allowed here: {done.stderr.strip()}')
    yield tmp_path / 'disk', mount
    subprocess.run(['umount', str(tmp_path / 'disk')], check=True)


def test_a_disk_without_any_room(mounted, monkeypatch):
    disk, _ = mounted
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(disk / 'cache'))
    (disk / 'filler').write_bytes(bytes(1 << 15))
    finding = doctor.caches()[0]
    assert finding.wrong and finding.found == (
        f'{disk}/cache cannot be written (No space left on device)'
    )
    assert finding.advice.startswith('make room, or set TFF_TRANSFER_CACHE_DIR')
    assert [path.name for path in disk.iterdir()] == ['filler']
    assert any(f'0.0 GiB free for {disk}' in f.found for f in doctor.disk() if f.wrong)


def test_a_disk_that_is_only_read(mounted, monkeypatch):
    """The administrator, too, who may write everything else."""
    disk, mount = mounted
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(disk))
    assert mount('-o', 'remount,ro').returncode == 0
    finding = doctor.caches()[0]
    assert finding.wrong and 'Read-only file system' in finding.found
    assert finding.advice.startswith('make it writable')


def test_caches_are_counted(home):
    folder = home.parent / 'tff_transfer_cache_dir'
    (folder / 'features').mkdir()
    (folder / 'features' / 'x.npy').write_bytes(bytes(20_000_000))
    found = doctor.caches()[0]
    assert found.found == f'{folder}: 1 files, 0.02 GB'


@pytest.mark.parametrize('name', ['TFF_TRANSFER_CACHE_DIR', 'TFHUB_CACHE_DIR'])
@pytest.mark.parametrize(
    'place, why',
    [
        ('file', 'file is no folder'),
        ('file/cache', 'file is no folder'),
        ('dangling', 'dangling is a link to nothing'),
        ('dangling/cache', 'dangling is a link to nothing'),
        ('/dev/full', '/dev/full is no folder'),
    ],
)
def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch, name, place, why):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'dangling').symlink_to('nowhere')
    monkeypatch.setenv(name, str(tmp_path / place))
    wrong = _only([finding for finding in doctor.caches() if finding.wrong])
    assert why in wrong.found and wrong.advice.endswith(f'set {name} to another folder')
    doctor.disk()  # It goes on.


def test_a_cache_that_is_still_to_be_made(tmp_path, monkeypatch):
    monkeypatch.setenv('TFF_TRANSFER_CACHE_DIR', str(tmp_path / 'a' / 'b'))
    assert doctor.caches()[0].found == f'{tmp_path}/a/b: 0 files, 0.00 GB'
    assert not (tmp_path / 'a').exists()


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
    assert 'absent' in _only(probes.emnist_cache()).found
    database = home / '.tff' / 'emnist_all.sqlite'
    images = np.zeros((6, 28, 28), np.uint8)
    labels, writers = np.arange(6) % 2, np.repeat(['a', 'b'], 3)
    data = federated.from_rows('', images, labels, writers, test_fraction=0.4)
    sqlite.write(data, database)
    finding = _only(probes.emnist_cache())
    assert finding.wrong and '2 writers' in finding.found and '3,400' in finding.advice
    database.write_bytes(database.read_bytes()[:5000])
    finding = _only(probes.emnist_cache())
    assert finding.wrong and 'truncated' in finding.found


def test_gpus(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    assert probes.gpus([]).found.startswith('none')
    assert probes.gpus(['/physical_device:GPU:0']).found == '/physical_device:GPU:0'
    (tmp_path / 'nvidia-smi').write_text('#!/bin/sh\n')
    (tmp_path / 'nvidia-smi').chmod(0o755)
    assert '[gpu]' in probes.gpus([]).advice


def test_what_hangs_is_ended_with_all_it_started(tmp_path):
    # The shell's child takes the place of TFF's worker: it outlives its parent.
    script = f'sleep 1000 & echo $! > {tmp_path}/pid; wait'
    start = time.monotonic()
    finding = _only(probes.ask(['sh', '-c', script], deadline_s=1))
    assert time.monotonic() - start < 10
    assert finding.wrong and 'did not end within 1 s' in finding.found
    status = pathlib.Path(f'/proc/{(tmp_path / "pid").read_text().strip()}/stat')
    end = time.monotonic() + 10
    while status.exists() and ') Z ' not in status.read_text():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_fails_says_its_last_words():
    script = 'echo first >&2; echo "ImportError: no such thing" >&2; exit 3'
    finding = _only(probes.ask(['sh', '-c', script], deadline_s=10))
    assert finding.found == 'failed (exit code 3): ImportError: no such thing'
    finding = _only(probes.ask(['sh', '-c', 'kill -9 $$'], deadline_s=10))
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

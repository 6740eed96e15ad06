"""Says what is wrong with this machine or its installation, and what to do.

`python -m tff_transfer.doctor` ends with exit code 0 if all works, 1 otherwise.
"""

import argparse
import errno
import os
import pathlib
import platform
import shutil
import sys
from collections.abc import Iterator

from tff_transfer import files, machine, pipes, probes, versions
from tff_transfer.findings import Finding, judge, line

_GIB = 1 << 30
_EMNIST_EXAMPLES = 341_873 + 40_832  # its digits, of which the default is
# What `python -m experiments.emnist_fedavg` takes with presets/demo.txt, and more with
# each example (float32 features of 1,280 and their copies), as measured.
_MEMORY = (_GIB, 7_000)
_ADDRESS_SPACE = (3 * _GIB, 12_000)


def python_and_platform() -> list[Finding]:
    """Looks at the interpreter, the system and the processor."""
    implementation = platform.python_implementation()
    system, processor = platform.system(), platform.machine()
    libc, version = platform.libc_ver()
    glibc = libc == 'glibc' and tuple(map(int, version.split('.')[:2]))
    return [
        judge(
            'Python',
            f'{implementation} {platform.python_version()}, {sys.executable}',
            implementation == 'CPython' and sys.version_info[:2] == (3, 11),
            'use CPython 3.11: make test PYTHON=/path/to/python3.11',
        ),
        judge(
            'platform',
            f'{system} {processor}, {libc or "no glibc"} {version}',
            (system, processor) == ('Linux', 'x86_64') and glibc and glibc >= (2, 31),
            'use Linux on x86_64 with glibc 2.31 or newer (Debian 11, Ubuntu 20.04):'
            ' TensorFlow Federated has no other packages',
        ),
        judge(
            'instructions',
            'AVX'
            if (avx := 'avx' in machine.read('/proc/cpuinfo').split())
            else 'no AVX',
            avx,
            'use another machine: TensorFlow is built for AVX',
        ),
    ]


def packages() -> list[Finding]:
    """Compares the essential packages' versions with what can work and the lock."""
    found = [
        Finding('packages', problem, versions.REMEDY, wrong=True)
        for problem in versions.problems()
    ]
    other = [
        f'{needed.name} {version} (lock: {needed.locked})'
        for needed in versions.NEEDED
        if (version := versions.installed(needed.name)) not in (None, needed.locked)
    ]
    if not found and other:
        advice = 'these can work and are not tested; where they fail, use the lock'
        found.append(Finding('packages', ', '.join(other), advice))
    if not found:
        names = [f'{n.name} {n.locked}' for n in versions.NEEDED[:4]]
        found.append(Finding('packages', f'as locked: {", ".join(names)} ...'))
    return found


def cores_and_memory() -> list[Finding]:
    """Counts the cores and the memory that this process may use."""
    cores = len(os.sched_getaffinity(0))
    found = [Finding('processor', f'{cores} cores')]
    for what, given, (least, each) in (
        ('memory', machine.memory(), _MEMORY),
        ('address space', machine.address_space(), _ADDRESS_SPACE),
    ):
        if given is None:
            continue
        emnist = least + _EMNIST_EXAMPLES * each
        limit = f' ({given.limit})' if given.limit else ''
        text = f'{_gib(given.free)} of {_gib(given.total)} GiB free{limit}'
        remedy = 'end other programs, raise the limit or use a larger machine'
        advice, wrong = '', False
        if given.free < least:
            wrong = True
            advice = f'{remedy}: the demo alone wants {_gib(least)} GiB'
        elif given.free < emnist:
            advice = (
                f'{remedy} for federated EMNIST, which wants {_gib(emnist)} GiB, or'
                ' keep fewer writers (--max_clients)'
            )
        found.append(Finding(what, text, advice, wrong))
    return found


def disk() -> list[Finding]:
    """Looks at the free space where caches, runs and temporary files go.

    And writes there: the space that is told may be the administrator's alone.
    """
    temporary = pathlib.Path(os.environ.get('TMPDIR') or '/tmp')
    folders: dict[int, list[str]] = {}
    for folder in (files.cache_dir(), pathlib.Path.cwd(), temporary):
        folder = folder.absolute()
        folder = next(each for each in (folder, *folder.parents) if each.is_dir())
        folders.setdefault(folder.stat().st_dev, []).append(str(folder))
    found = []
    for same_disk in folders.values():
        free = shutil.disk_usage(same_disk[0]).free
        text = f'{_gib(free)} GiB free for {", ".join(same_disk)}'
        advice = 'make room: features and checkpoints want 1 GiB'
        found.append(judge('disk', text, free >= _GIB, advice))
    found += _unwritable('run folder', pathlib.Path.cwd(), 'start in another folder')
    return found + _unwritable('temporary files', temporary, 'name one in TMPDIR')


def caches() -> list[Finding]:
    """Looks at the folders of cached features and of TF-Hub modules."""
    found = _folder('feature cache', files.cache_dir(), 'TFF_TRANSFER_CACHE_DIR')
    hub = os.environ.get('TFHUB_CACHE_DIR')
    if hub is None:
        text = 'TFHUB_CACHE_DIR is not set: modules go to temporary files'
        advice = (
            'set it to a folder of your own, so that modules need no second download'
        )
        return [*found, Finding('TF-Hub cache', text, advice)]
    found += _folder('TF-Hub cache', pathlib.Path(hub), 'TFHUB_CACHE_DIR')
    # TF-Hub writes `NAME.descriptor.txt` once the folder NAME is there.
    for descriptor in sorted(pathlib.Path(hub).glob('*.descriptor.txt')):
        module = descriptor.with_name(descriptor.name.removesuffix('.descriptor.txt'))
        if not any(module.glob('saved_model.pb*')):
            advice = f'delete {module} and {descriptor}'
            found.append(
                Finding('TF-Hub cache', f'{module} is no module', advice, wrong=True)
            )
    return found


def _folder(what: str, folder: pathlib.Path, variable: str) -> list[Finding]:
    """Looks whether a cache's folder can be written, and how much it holds."""
    if wrong := _unwritable(what, folder, f'set {variable} to another folder'):
        return wrong
    sizes = [
        os.lstat(os.path.join(root, name)).st_size
        for root, _, names in os.walk(folder)
        for name in names
    ]
    return [Finding(what, f'{folder}: {len(sizes)} files, {sum(sizes) / 1e9:.2f} GB')]


def _unwritable(what: str, folder: pathlib.Path, else_do: str) -> list[Finding]:
    """Returns what is wrong with a folder in which files must be written, if it is."""
    error = machine.why_not_writable(folder)
    if error is None:
        return []
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    text = f'{folder} cannot be written ({error.strerror})'
    advice = f'{"make room" if full else "make it writable"}, or {else_do}'
    return [Finding(what, text, advice, wrong=True)]


def _gib(size: int) -> str:
    return f'{size / _GIB:.1f}'


def examine() -> Iterator[Finding]:
    """Gives all findings, the quick ones first."""
    foundations = [*python_and_platform(), *packages()]
    yield from foundations
    if any(finding.wrong for finding in foundations):
        yield Finding('computation', 'not tried')
        return
    for check in (cores_and_memory, disk, caches, probes.federated_computations):
        yield from check()


def main() -> int:
    """Prints each finding as it comes; returns the exit code."""
    argparse.ArgumentParser(
        prog='python -m tff_transfer.doctor', description=__doc__
    ).parse_args()
    wrong = 0
    for finding in examine():
        print(line(finding), flush=True)
        wrong += finding.wrong
    print(f'{wrong} wrong: see the arrows' if wrong else 'All is well.')
    return 1 if wrong else 0


if __name__ == '__main__':
    with pipes.may_close():
        sys.exit(main())

"""Says what is wrong with this machine or its installation, and what to do.

`python -m tff_transfer.doctor` ends with exit code 0 if all works, 1 otherwise.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from tff_transfer import errors, files, pipes, versions

_GIB = 1 << 30
_EMNIST_WRITERS = 3_400  # as documented by tff.simulation.datasets.emnist.load_data
_REINSTALL = 'install again (in a clone: delete .venv, then `make test`)'


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found out about one thing.

    Attributes:
      what: The thing, in a word or two.
      found: How it is, in one line.
      advice: What to do, in one line; empty where there is nothing to do.
      wrong: Whether something cannot work unless the advice is followed.
    """

    what: str
    found: str
    advice: str = ''
    wrong: bool = False


def python_and_platform() -> list[Finding]:
    """Looks at the interpreter, the system and the processor."""
    implementation = platform.python_implementation()
    system, machine = platform.system(), platform.machine()
    libc, version = platform.libc_ver()
    glibc = libc == 'glibc' and tuple(map(int, version.split('.')[:2]))
    return [
        _judge(
            'Python',
            f'{implementation} {platform.python_version()}, {sys.executable}',
            implementation == 'CPython' and sys.version_info[:2] == (3, 11),
            'use CPython 3.11: make test PYTHON=/path/to/python3.11',
        ),
        _judge(
            'platform',
            f'{system} {machine}, {libc or "no glibc"} {version}',
            (system, machine) == ('Linux', 'x86_64') and glibc and glibc >= (2, 31),
            'use Linux on x86_64 with glibc 2.31 or newer (Debian 11, Ubuntu 20.04):'
            ' TensorFlow Federated has no other packages',
        ),
        _judge(
            'instructions',
            'AVX' if (avx := 'avx' in _read('/proc/cpuinfo').split()) else 'no AVX',
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
    memory = dict(line.split(':') for line in _read('/proc/meminfo').splitlines())
    total, free = (
        int(memory[key].split()[0]) * 1024 for key in ('MemTotal', 'MemAvailable')
    )
    limit = _read('/sys/fs/cgroup/memory.max').strip()
    if limit.isdigit() and int(limit) < total:
        used = int(_read('/sys/fs/cgroup/memory.current'))
        total, free = int(limit), min(free, int(limit) - used)
    return [
        Finding('processor', f'{cores} cores'),
        _judge(
            'memory',
            f'{free / _GIB:.1f} of {total / _GIB:.1f} GiB free',
            free >= 2 * _GIB,
            'end other programs or use a larger machine: TensorFlow and a backbone'
            ' want 2 GiB',
        ),
    ]


def disk() -> list[Finding]:
    """Looks at the free space where caches, runs and temporary files go."""
    folders: dict[int, list[str]] = {}
    for folder in (files.cache_dir(), pathlib.Path.cwd(), tempfile.gettempdir()):
        folder = _existing(pathlib.Path(folder))
        folders.setdefault(os.stat(folder).st_dev, []).append(str(folder))
    found = []
    for same_disk in folders.values():
        free = shutil.disk_usage(same_disk[0]).free
        text = f'{free / _GIB:.1f} GiB free for {", ".join(same_disk)}'
        advice = 'make room: features and checkpoints want 1 GiB'
        found.append(_judge('disk', text, free >= _GIB, advice))
    return found


def caches() -> list[Finding]:
    """Looks at the folders of cached features and of TF-Hub modules."""
    folder = files.cache_dir()
    found = [_folder('feature cache', folder, 'TFF_TRANSFER_CACHE_DIR')]
    hub = os.environ.get('TFHUB_CACHE_DIR')
    if hub is None:
        text = 'TFHUB_CACHE_DIR is not set: modules go to temporary files'
        advice = (
            'set it to a folder of your own, so that modules need no second download'
        )
        return [*found, Finding('TF-Hub cache', text, advice)]
    found.append(_folder('TF-Hub cache', pathlib.Path(hub), 'TFHUB_CACHE_DIR'))
    # TF-Hub writes `NAME.descriptor.txt` once the folder NAME is there.
    for descriptor in sorted(pathlib.Path(hub).glob('*.descriptor.txt')):
        module = descriptor.with_name(descriptor.name.removesuffix('.descriptor.txt'))
        if not any(module.glob('saved_model.pb*')):
            advice = f'delete {module} and {descriptor}'
            found.append(
                Finding('TF-Hub cache', f'{module} is no module', advice, wrong=True)
            )
    return found


def emnist_cache() -> list[Finding]:
    """Checks TFF's federated EMNIST database, where it has been downloaded."""
    database = pathlib.Path.home() / '.tff' / 'emnist_all.sqlite'
    if not database.exists():
        text = f'{database} is absent: downloaded at first use'
        return [Finding('EMNIST', text)]
    from tff_transfer.data import sqlite

    try:
        writers = sqlite.splits(database).get('all_train', 0)
    except errors.UserError as error:
        return [Finding('EMNIST', str(error), f'delete {database}', wrong=True)]
    text = f'{database}: {writers:,} writers'
    advice = f'delete it: federated EMNIST has {_EMNIST_WRITERS:,}'
    return [_judge('EMNIST', text, writers == _EMNIST_WRITERS, advice)]


def federated_computations(deadline_s: float = 60) -> list[Finding]:
    """Runs a federated computation in a process of its own, and asks for GPUs there.

    Args:
      deadline_s: The most seconds for all of it, TensorFlow's import included.
    """
    return ask([sys.executable, '-c', _PROBE], deadline_s)


_PROBE = 'from tff_transfer import doctor; doctor.probe()'


def probe() -> None:
    """Prints findings as lines of JSON: what `federated_computations` starts."""
    import numpy as np
    import tensorflow as tf
    import tensorflow_federated as tff

    from tff_transfer import runtime

    devices = tf.config.list_physical_devices('GPU')
    _tell(gpus([device.name for device in devices]))
    _tell(*emnist_cache())

    @tff.tensorflow.computation(np.float32)
    def square(x):
        return x * x

    @tff.federated_computation(tff.FederatedType(np.float32, tff.CLIENTS))
    def mean_square(x):
        return tff.federated_mean(tff.federated_map(square, x))

    for name, use in (('compiled', runtime.use_compiled), ('stock', runtime.use_stock)):
        with use():
            result = mean_square([1.0, 2.0, 6.0])
        text = f'mean square of 1, 2 and 6 on the {name} runtime: {result:.4f}'
        fine = abs(result - 41 / 3) < 1e-4
        advice = f'it should be 13.6667: {_REINSTALL}'
        _tell(_judge('computation', text, fine, advice))


def gpus(seen: list[str]) -> Finding:
    """Judges the GPUs that TensorFlow sees by those that the machine has."""
    if seen:
        return Finding('GPU', ', '.join(seen))
    if shutil.which('nvidia-smi') is None:
        return Finding('GPU', 'none: all runs on the processor')
    return Finding(
        'GPU',
        'the machine seems to have one, and TensorFlow sees none',
        "python -m pip install --no-build-isolation -e '.[gpu]' (see BUILD_NOTES.md)",
    )


def _tell(*findings: Finding) -> None:
    for finding in findings:
        print(json.dumps(dataclasses.asdict(finding)), flush=True)


def ask(command: list[str], deadline_s: float) -> list[Finding]:
    """Runs a command that prints findings; one that fails or hangs is a finding."""
    # Files, since a process that outlives the command would keep pipes open.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=log,
            start_new_session=True,
        )
        try:
            status = process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        log.seek(0)
        found = [Finding(**json.loads(line)) for line in output]
        said = log.read().decode(errors='replace').strip().splitlines()
    if status is None:
        text = f'did not end within {deadline_s:g} s'
        advice = (
            f'end other programs and try again; if that does not help, {_REINSTALL}'
        )
        found.append(Finding('computation', text, advice, wrong=True))
    elif status != 0:
        how = f'signal {-status}' if status < 0 else f'exit code {status}'
        text = f'failed ({how}): {said[-1] if said else "without a word"}'
        found.append(Finding('computation', text, _REINSTALL, wrong=True))
    return found


def _judge(what: str, found: str, fine: bool, advice: str) -> Finding:
    """Returns a finding that is wrong, with the advice, unless it is fine."""
    return Finding(what, found) if fine else Finding(what, found, advice, wrong=True)


def _folder(what: str, folder: pathlib.Path, variable: str) -> Finding:
    """Looks whether a cache's folder can be written, and how much it holds."""
    parent = _existing(folder)
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        advice = f'make it writable, or set {variable} to another folder'
        return Finding(what, f'{folder} cannot be written', advice, wrong=True)
    sizes = [
        os.lstat(os.path.join(root, name)).st_size
        for root, _, names in os.walk(folder)
        for name in names
    ]
    return Finding(what, f'{folder}: {len(sizes)} files, {sum(sizes) / 1e9:.2f} GB')


def _existing(path: pathlib.Path) -> pathlib.Path:
    """Returns the path, or the nearest of its parents that exists."""
    path = path.absolute()
    return next(each for each in (path, *path.parents) if each.exists())


def _read(path: str) -> str:
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ''


def examine() -> Iterator[Finding]:
    """Gives all findings, the quick ones first."""
    foundations = [*python_and_platform(), *packages()]
    yield from foundations
    if any(finding.wrong for finding in foundations):
        yield Finding('computation', 'not tried')
        return
    for check in (cores_and_memory, disk, caches, federated_computations):
        yield from check()


def line(finding: Finding) -> str:
    """Returns a finding as a row of the table, with the advice below it."""
    state = 'WRONG' if finding.wrong else 'note' if finding.advice else 'ok'
    text = f'{state:5}  {finding.what:13}  {finding.found}'
    return f'{text}\n{"":22}-> {finding.advice}' if finding.advice else text


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

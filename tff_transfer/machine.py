"""What the system gives this process: memory, address space, room for files."""

import dataclasses
import errno
import os
import pathlib
import resource
import tempfile

# What a process may be given is bounded by each group of processes that it is in. The
# names of limit and use in version 2 of Linux's control groups, and in version 1.
_GROUPS = (
    ('', '/sys/fs/cgroup', 'memory.max', 'memory.current', 'inactive_file'),
    ('memory', '/sys/fs/cgroup/memory', 'memory.limit_in_bytes',
     'memory.usage_in_bytes', 'total_inactive_file'),
)  # fmt: skip
# Enough that no file system keeps it among its own records.
_TRIED_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory that a process may use.

    Attributes:
      total: Bytes in all.
      free: Bytes that neither it nor another one has taken.
      limit: What sets `total`, in a word or two; empty for the machine itself.
    """

    total: int
    free: int
    limit: str = ''


def read(path: str | os.PathLike[str]) -> str:
    """Returns the text of a file of the system's, or nothing where there is none."""
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ''


def memory() -> Memory:
    """Returns the memory of this process: the machine's, or a container's if less."""
    lines = dict(line.split(':') for line in read('/proc/meminfo').splitlines())
    total, free = (
        int(lines[key].split()[0]) * 1024 for key in ('MemTotal', 'MemAvailable')
    )
    found = Memory(total, free)
    for each in _groups():
        if each.total < total:
            free = min(free, each.free)
            found = min(found, each, key=lambda memory: memory.total)
    return dataclasses.replace(found, free=max(free, 0))


def _groups() -> list[Memory]:
    """Returns the memory of each control group that limits it."""
    found = []
    for line in read('/proc/self/cgroup').splitlines():
        _, controllers, path = line.split(':', 2)
        for controller, mount, limit, use, cached in _GROUPS:
            if controller not in controllers.split(','):
                continue
            # A container may see its own group as the root, by the name outside.
            group = pathlib.PurePath(mount + path)
            for folder in (group, *group.parents):
                if folder.is_relative_to(mount):
                    found += _group(folder, limit, use, cached)
    return found


def _group(folder: pathlib.PurePath, limit: str, use: str, cached: str) -> list[Memory]:
    """Returns the memory of the control group of a folder, if that limits it."""
    text = read(folder / limit).strip()
    if not text.isdigit():
        return []
    counts = dict(map(str.split, read(folder / 'memory.stat').splitlines()))
    # Pages of files the system takes back.
    used = int(read(folder / use) or 0) - int(counts.get(cached, 0))
    return [Memory(int(text), int(text) - used, 'control group')]


def address_space() -> Memory | None:
    """Returns what `ulimit -v` leaves this process; None where it is not limited."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    used = int(read('/proc/self/statm').split()[0]) * resource.getpagesize()
    return Memory(limit, max(limit - used, 0), 'ulimit -v')


def why_not_writable(folder: str | os.PathLike[str]) -> OSError | None:
    """Writes a small file where a folder is, or would be made, and removes it.

    The system's own answers, of permissions and free space, do not hold for the
    administrator, for disks that are mounted to be read, for quotas, nor where a disk
    has no room for one more name.

    Args:
      folder: The folder.

    Returns:
      What went wrong; None if it can be written.
    """
    path = pathlib.Path(folder).absolute()
    # Where anything is, even a link to nothing: a folder is made below it.
    folder = next(each for each in (path, *path.parents) if os.path.lexists(each))
    if not folder.is_dir():
        kind = 'a link to nothing' if folder.is_symlink() else 'no folder'
        return NotADirectoryError(errno.ENOTDIR, f'{folder} is {kind}')
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(os.urandom(_TRIED_BYTES))
            file.flush()
            # Some systems find room only when they must.
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return None

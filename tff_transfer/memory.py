"""How much memory this process may use, and what clearly does not fit in it."""

import pathlib

from tff_transfer.errors import UserError

GIB = 1 << 30
MEMINFO = pathlib.Path('/proc/meminfo')
CONTROL_GROUP = pathlib.Path('/sys/fs/cgroup')


def total_and_free() -> tuple[int, int]:
    """Returns the bytes of memory that there are, and those that are free.

    Of the machine, or of the control group that this process is limited to.
    """
    memory = dict(line.split(':') for line in MEMINFO.read_text().splitlines())
    total, free = (
        int(memory[key].split()[0]) * 1024 for key in ('MemTotal', 'MemAvailable')
    )
    try:
        limit = (CONTROL_GROUP / 'memory.max').read_text().strip()
        used = (CONTROL_GROUP / 'memory.current').read_text()
    except OSError:
        return total, free
    if limit.isdigit() and int(limit) < total:
        total, free = int(limit), min(free, int(limit) - int(used))
    return total, free


def check_fits(what: str, needed: int, advice: str) -> None:
    """Refuses what needs more memory than is free.

    Args:
      what: What needs it, such as `'a batch of 32 images'`.
      needed: The bytes that it needs at least.
      advice: What to do, such as `'give a smaller size'`.

    Raises:
      UserError: It does not fit.
    """
    _, free = total_and_free()
    if needed > free:
        raise UserError(
            f'{what} would take at least {needed / GIB:,.1f} GiB of memory, but'
            f' {free / GIB:,.1f} GiB are free; {advice}'
        )

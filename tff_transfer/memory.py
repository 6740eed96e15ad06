"""What clearly does not fit into the memory that this process may use."""

from tff_transfer import machine
from tff_transfer.errors import UserError

GIB = 1 << 30


def check_fits(what: str, needed: int, advice: str) -> None:
    """Refuses what needs more memory than is free.

    Args:
      what: What needs it, such as `'a batch of 32 images'`.
      needed: The bytes that it needs at least.
      advice: What to do, such as `'give a smaller size'`.

    Raises:
      UserError: It does not fit.
    """
    free = machine.memory().free
    if needed > free:
        raise UserError(
            f'{what} would take at least {needed / GIB:,.1f} GiB of memory, but'
            f' {free / GIB:,.1f} GiB are free; {advice}'
        )

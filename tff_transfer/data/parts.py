"""What the parts of a source are called that has a split of its own."""

import os
from collections.abc import Sequence

import numpy as np

from tff_transfer.errors import UserError

# Whether a part's examples are test examples; those for validation are trained on.
IS_TEST = {'train': False, 'training': False, 'val': False, 'valid': False,
           'validation': False, 'test': True}  # fmt: skip


def is_test(where: str | os.PathLike[str], names: Sequence[str]) -> np.ndarray | None:
    """Returns which examples are test examples by the names of their parts.

    Args:
      where: What they are from, for the error.
      names: The part of each example, [n]; upper case is as lower case.

    Returns:
      bool [n], or None if none is a test example: then a share is to be drawn.

    Raises:
      UserError: A part of another name.
    """
    names = [name.strip().lower() for name in names]
    wrong = sorted(set(names) - set(IS_TEST))
    if wrong:
        raise UserError(
            f'{where}: a split holds {wrong[0][:40]!r}; use train, validation (which is'
            ' trained on too) and test only'
        )
    found = np.array([IS_TEST[name] for name in names])
    return found if found.any() else None

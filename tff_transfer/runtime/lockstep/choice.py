"""Whether clients go in lockstep, and how many: a function of sizes alone."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tff_transfer.runtime.blocks import BLOCKS, Settings
from tff_transfer.runtime.layouts import ClientSequences, ClientTensors
from tff_transfer.runtime.tensors import nbytes

Leaf = ClientSequences | ClientTensors

# The most bytes of a client's weights and one batch with which it pays on processors,
# as measured (docs/runtime.md): with more, products take the time, and one matrix is
# multiplied as fast as a stack of them.
_PAYS = 2**17
# The fewest clients with which it pays there: fewer would be one block, which leaves
# processors idle, and to trace it takes longer than many rounds save.
_FEWEST = 64
# The most bytes of weights and batches of the clients that go together, about what a
# processor's own cache holds: with more, each step reads them from memory.
_TOGETHER = 2**21
# The same for GPUs, on which each operation has a cost of its own: what activations
# leave free of a small one's memory. It was not measured on any.
_TOGETHER_ON_GPUS = 2**26
# The most clients that go together: with more, a step's operations hardly get cheaper.
_MOST = 128
# The fewest clients that a block is made for.
_OF_A_BLOCK = 32


def most_together(
    sent: Sequence[tf.Tensor | np.ndarray],
    leaves: Sequence[Leaf],
    count: int,
    settings: Settings,
) -> int:
    """Returns how many clients may go in lockstep, 0 if each is to go alone.

    Args:
      sent: What the server sends to each client.
      leaves: The clients' values.
      count: How many clients there are.
      settings: How programs run.
    """
    wanted = settings.lockstep
    if wanted is False or settings.debug or not count or not _have_steps(leaves):
        return 0
    size = sum(map(nbytes, sent))
    size += sum(_bytes(leaf, count) for leaf in leaves)
    processors = settings.on_processors
    if wanted is None and processors and (size > _PAYS or count < _FEWEST):
        return 0
    together = _TOGETHER if processors else _TOGETHER_ON_GPUS
    return int(np.clip(together // max(size, 1), 1, _MOST))


def own_kernels_pay(settings: Settings) -> bool:
    """Returns whether clients that convolve by kernels of their own may go together.

    On processors that takes longer than one by one, of whatever size (docs/runtime.md).
    """
    return bool(settings.lockstep) or not settings.on_processors


def blocks_of(count: int) -> int:
    """Returns how many blocks so many clients are divided into: a power of two.

    A block takes as many steps as its longest client, whatever others there are, so
    that many small ones cost more; one alone would leave processors idle.
    """
    return 1 << (min(max(count // _OF_A_BLOCK, 1), BLOCKS).bit_length() - 1)


def _bytes(leaf: Leaf, count: int) -> float:
    """Returns about how many bytes of a client's value a step uses."""
    if isinstance(leaf, ClientTensors):
        return sum(array.nbytes for array in leaf.arrays) / count
    steps = max(int(leaf.starts[-1]), 1)
    return sum(values.nbytes for values, *_ in leaf.leaves) / steps


def _have_steps(leaves: Sequence[Leaf]) -> bool:
    """Returns whether all tensors of an element have the same number of rows."""
    for leaf in leaves:
        if isinstance(leaf, ClientSequences):
            starts = [rest[0] for _, *rest in leaf.leaves if rest]
            if any(s is not starts[0] and np.any(s != starts[0]) for s in starts):
                return False
    return True

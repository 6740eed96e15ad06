"""Blocks of clients: which clients run together, and which of them failed."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer.errors import UserError
from tff_transfer.runtime.layouts import ClientSequences, ClientTensors

Leaf = ClientSequences | ClientTensors


@dataclasses.dataclass(frozen=True)
class Settings:
    """How programs run.

    Attributes:
      threads: How many shares of clients run at a time on each device.
      block_bytes: The most bytes of client data of one share, about.
      devices: TensorFlow's names of the devices for clients' work.
      debug: Whether clients run one at a time, and the state after each of a
        client's steps is checked to be finite.
      compute_dtype: What products of float32 are computed in at clients, if not that.
      draws: Whether draws hang on keys.
      lockstep: Whether clients go in lockstep where they can; None where it pays.

    Raises:
      UserError: One of them is out of its range.
    """

    threads: int
    block_bytes: int
    devices: tuple[str, ...]
    debug: bool
    compute_dtype: str | None
    draws: bool = False
    lockstep: bool | None = None

    def __post_init__(self):
        if self.threads < 1 or self.block_bytes < 1:
            raise UserError(
                f'threads is {self.threads} and block_bytes {self.block_bytes}, but'
                ' both must be at least 1'
            )
        if self.compute_dtype not in (None, 'bfloat16', 'float16'):
            raise UserError(
                f'compute_dtype is {self.compute_dtype!r}, but must be None, bfloat16'
                ' or float16'
            )
        some_processor = any('CPU' in device.upper() for device in self.devices)
        if self.compute_dtype == 'float16' and some_processor:
            raise UserError(
                'compute_dtype is float16, which is slow on processors: use bfloat16,'
                ' or GPUs'
            )

    @property
    def on_processors(self) -> bool:
        """Whether clients run on processors alone."""
        return all('CPU' in device.upper() for device in self.devices)


# Enough for the threads that there may be; a block costs its state and a merge.
BLOCKS = 8


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Which clients are summed together.

    Attributes:
      cuts: The first client of each block, and the one after the last.
      sizes: About how many bytes each block's values take, [blocks].
      parts: The fewest calls in which they run, so that none is too large.
    """

    cuts: list[int]
    sizes: np.ndarray
    parts: int

    def in_calls(self, at_a_time: int) -> list[list[int]]:
        """Returns which blocks run in one call, neighbours of equal number: their cuts.

        There are as many calls as run at a time, or more if they would be too large.
        """
        blocks = len(self.cuts) - 1
        calls = min(max(at_a_time, self.parts), blocks)
        bounds = [call * blocks // calls for call in range(calls + 1)]
        return [self.cuts[a : b + 1] for a, b in itertools.pairwise(bounds)]


def divide(
    leaves: Sequence[Leaf], count: int, settings: Settings, fewest: int = BLOCKS
) -> Blocks:
    """Divides clients into blocks of about equal size.

    Args:
      leaves: The clients' values.
      count: How many clients there are.
      settings: How programs run.
      fewest: How many blocks there are if `block_bytes` wants no more.

    Returns:
      The blocks. Their bounds hang on sizes and `block_bytes` alone: what is summed in
      which order is the same on every machine.
    """
    if count == 0:
        return Blocks([0, 0], np.zeros(1), 1)
    size = sum((_nbytes(leaf) for leaf in leaves), np.zeros(count))
    parts = int(np.ceil(size.sum() / settings.block_bytes))
    # A client costs something even if it holds nothing.
    size = size + max(size.mean(), 1.0) * 0.01
    if settings.debug:
        return Blocks(list(range(count + 1)), size, count)
    blocks = max(fewest, parts)
    block = ((np.cumsum(size) - size / 2) / size.sum() * blocks).astype(np.int64)
    first = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist()]
    return Blocks([*first, count], np.add.reduceat(size, first), parts)


def _nbytes(leaf: Leaf) -> np.ndarray:
    """Returns about how many bytes each client's values take, [clients]."""
    if isinstance(leaf, ClientTensors):
        # As sequences of one element.
        leaf = ClientSequences((leaf.arrays,), np.arange(leaf.clients + 1))
    return leaf.nbytes()


def where_it_fails(
    run: Callable[[Sequence[Leaf], int], object], leaves: Sequence[Leaf], count: int
) -> str | None:
    """Runs clients one at a time to find the first that fails, and at which step.

    Args:
      run: Runs a client with these values, by its number.
      leaves: The clients' values.
      count: How many clients there are.

    Returns:
      A description, or None if no client fails alone.
    """

    def fails(mine, client):
        try:
            run(mine, client)
        except tf.errors.OpError:
            return True
        return False

    for client in range(count):
        mine = [leaf.some(client, client + 1) for leaf in leaves]
        if not fails(mine, client):
            continue
        steps = [int(x.starts[-1]) for x in mine if isinstance(x, ClientSequences)]
        # The fewest steps with which the client fails.
        low, high = 0, max(steps, default=0)
        while low < high:
            middle = (low + high) // 2
            if fails([leaf.head(middle) for leaf in mine], client):
                high = middle
            else:
                low = middle + 1
        return f'client {client}' + (f', step {low - 1}' if low else '')
    return None

"""Blocks of clients: which clients run together, where, and which of them failed."""

import concurrent.futures
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from tff_transfer.runtime.layouts import ClientSequences, ClientTensors

Leaf = ClientSequences | ClientTensors


@dataclasses.dataclass(frozen=True)
class Settings:
    """How programs run.

    Attributes:
      threads: How many blocks of clients run at a time on each device.
      block_bytes: The most bytes of client data of one block, about.
      devices: TensorFlow's names of the devices for clients' work.
      debug: Whether clients run one at a time, and the state after each of a
        client's steps is checked to be finite.
      compute_dtype: What products of float32 are computed in at clients, if not that.
    """

    threads: int
    block_bytes: int
    devices: tuple[str, ...]
    debug: bool
    compute_dtype: str | None


def split(leaves: Sequence[Leaf], count: int, settings: Settings):
    """Returns which clients run together, a function of sizes and settings alone.

    Args:
      leaves: The clients' values.
      count: How many clients there are.
      settings: How programs run.

    Returns:
      The first client and the one after the last of each block: as many blocks of
      about equal size as run at a time, or more if they would be too large.
    """
    sequences = [leaf for leaf in leaves if isinstance(leaf, ClientSequences)]
    if settings.debug and count:
        return [(c, c + 1) for c in range(count)]
    if count == 0 or not sequences:
        return [(0, count)]
    size = sum(leaf.nbytes() for leaf in sequences)
    blocks = max(
        settings.threads * len(settings.devices),
        int(np.ceil(size.sum() / settings.block_bytes)),
    )
    # A client costs something even if it holds nothing.
    size = size + max(size.mean(), 1.0) * 0.01
    block = ((np.cumsum(size) - size / 2) / size.sum() * blocks).astype(np.int64)
    cuts = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), count]
    return list(itertools.pairwise(cuts))


def run_in_order(run: Callable, blocks: list, settings: Settings) -> Iterator:
    """Yields `run(block)` for all blocks, in order, with a few under way at a time.

    One device's blocks run under that device's scope.
    """
    placed = list(zip(blocks, itertools.cycle(settings.devices)))

    def on_device(block, device):
        with tf.device(device):
            return run(block)

    workers = min(settings.threads * len(settings.devices), len(blocks))
    if workers == 1 or settings.debug:
        yield from itertools.starmap(on_device, placed)
        return
    pool = _pool(workers)
    waiting = []
    try:
        for block, device in placed:
            waiting.append(pool.submit(on_device, block, device))
            if len(waiting) > workers:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        concurrent.futures.wait([f for f in waiting if not f.cancel()])


@functools.cache
def _pool(workers: int) -> concurrent.futures.ThreadPoolExecutor:
    # Kept: to start threads for each round takes about as long as to call TensorFlow.
    return concurrent.futures.ThreadPoolExecutor(workers, 'blocks of clients')


def where_it_fails(
    run: Callable[[Sequence[Leaf]], object], leaves: Sequence[Leaf], count: int
) -> str | None:
    """Runs clients one at a time to find the first that fails, and at which step.

    Args:
      run: Runs clients with these values.
      leaves: The clients' values.
      count: How many clients there are.

    Returns:
      A description, or None if no client fails alone.
    """

    def fails(mine):
        try:
            run(mine)
        except tf.errors.OpError:
            return True
        return False

    for client in range(count):
        mine = [leaf.select(client) for leaf in leaves]
        if not fails(mine):
            continue
        steps = [int(x.starts[-1]) for x in mine if isinstance(x, ClientSequences)]
        # The fewest steps with which the client fails.
        low, high = 0, max(steps, default=0)
        while low < high:
            middle = (low + high) // 2
            if fails([leaf.head(middle) for leaf in mine]):
                high = middle
            else:
                low = middle + 1
        return f'client {client}' + (f', step {low - 1}' if low else '')
    return None
